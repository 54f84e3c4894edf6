"""The entry point: the verbs, and one clear line in place of a traceback."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from typing import Annotated

import typer

from dallme.cli.audit import audit
from dallme.cli.benchmark import app as benchmark
from dallme.cli.compare import compare
from dallme.cli.curve import curve
from dallme.cli.demo import demo
from dallme.cli.distill import distill
from dallme.cli.doctor import doctor
from dallme.cli.embed import embed
from dallme.cli.evaluate import evaluate
from dallme.cli.export import export
from dallme.cli.inspect import inspect
from dallme.cli.inverters import decode, invert_check, train_inverter
from dallme.cli.output import make_streams_safe, show
from dallme.cli.parts import list_parts
from dallme.cli.plan import plan
from dallme.cli.probe import probe
from dallme.cli.push import push
from dallme.cli.report import report
from dallme.cli.reproduce import reproduce
from dallme.cli.review import review
from dallme.cli.settings import SettingsCommand
from dallme.cli.store import store
from dallme.cli.update import update
from dallme.errors import DallmeError
from dallme.versions import __version__

#: Panels of ``dallme --help``.
DISTIL, MEASURE, SHARE = "Distil", "Measure", "Understand and share"
INVERTERS, SETUP = "Inverters", "Setup"

app = typer.Typer(
    name="dallme",
    help="Distil a large labelled text dataset into a few readable texts, and measure how well classifiers "
    "learn from them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel=DISTIL)(inspect)
app.command(rich_help_panel=DISTIL, cls=SettingsCommand)(distill)
app.command(rich_help_panel=DISTIL, cls=SettingsCommand)(plan)
app.command(rich_help_panel=DISTIL, cls=SettingsCommand)(embed)
app.command(rich_help_panel=DISTIL, cls=SettingsCommand)(update)
app.command(rich_help_panel=DISTIL)(demo)
app.command(rich_help_panel=MEASURE, cls=SettingsCommand)(evaluate)
app.command(rich_help_panel=MEASURE, cls=SettingsCommand)(compare)
app.command(rich_help_panel=MEASURE, cls=SettingsCommand)(curve)
app.command(rich_help_panel=MEASURE, cls=SettingsCommand)(probe)
app.command(rich_help_panel=MEASURE)(reproduce)
app.add_typer(benchmark, name="benchmark", rich_help_panel=MEASURE)
app.command(rich_help_panel=SHARE)(audit)
app.command(rich_help_panel=SHARE)(report)
app.command(rich_help_panel=SHARE)(review)
app.command(rich_help_panel=SHARE)(export)
app.command(rich_help_panel=SHARE)(push)
app.command(rich_help_panel=INVERTERS, cls=SettingsCommand)(train_inverter)
app.command(rich_help_panel=INVERTERS)(invert_check)
app.command(rich_help_panel=INVERTERS)(decode)
app.command(rich_help_panel=SETUP)(doctor)
app.command(rich_help_panel=SETUP, name="list")(list_parts)
app.command(rich_help_panel=SETUP)(store)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        show(f"dallme {__version__}")
    elif context.invoked_subcommand is None:
        show(context.get_help())


def run() -> None:
    """Runs the command line; errors that the user can mend end in one line on standard error and status 2."""
    try:
        make_streams_safe()
        # Libraries report progress, retries and warnings on standard error; the verbs say what matters.
        for library in ("datasets", "huggingface_hub", "sentence_transformers", "transformers"):
            logging.getLogger(library).setLevel(logging.ERROR)
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            # Libraries add filters of their own when they are imported.
            warnings.showwarning = lambda *_, **__: None
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        signal.signal(signal.SIGTERM, _terminate)
        status = _status()
        sys.stdout.flush()
    except KeyboardInterrupt:  # before the command began, or while it was ending
        status = _interrupted()
    except OSError as error:  # the output goes to a full disk; what is buffered is dropped
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = _fail(f"expected to write the output, could not: {error.strerror or error}")
    except Exception as error:
        show("".join(traceback.format_exception(error)), error=True)
        show("error: this is a bug in dallme; please report it with the lines above", error=True)
        status = 1
    sys.exit(status)


def _status() -> int:
    """Runs the command and returns its exit status."""
    command = typer.main.get_command(app)
    try:
        result = command.main(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except DallmeError as error:
        return _fail(_with_flags(str(error)))
    except typer.Abort:
        return _interrupted()
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message.startswith(("No such command", "Missing command")):
            group = getattr(getattr(error, "ctx", None), "command", command)
            message = f"{message.rstrip('.')}. known: {', '.join(getattr(group, 'commands', {}))}"
        return _fail(f"{message.rstrip('.')}; see --help") if message else 0
    except KeyboardInterrupt:
        return _interrupted()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            return _fail(
                f"expected to read and write files, could not: {error}; make room, or see to the permissions"
            )
        raise
    except MemoryError:
        return _fail("expected enough memory, found too little; use a smaller source or a faster embedder")


#: Parameters of Python that errors name, such as ``redact=True``; each has a flag of the same name.
_PARAMETERS = re.compile(
    r"(?<![\w'\"-])(?:(redact|allow_personal|drop_bad_rows)=True|(max_personal|per_class|max_tokens))(?![\w'\"])"
)


def _with_flags(message: str) -> str:
    """Replaces parameters of Python in an error by the flags of the command line."""
    return _PARAMETERS.sub(lambda match: f"--{(match[1] or match[2]).replace('_', '-')}", message)


def _fail(message: str) -> int:
    show(f"error: {' '.join(message.split())}", error=True)
    return 2


def _interrupted() -> int:
    show(
        "interrupted; the same command continues where this one stopped (train-inverter with --resume)",
        error=True,
    )
    return 130


def _terminate(number: int, frame: object) -> None:
    """Raises an exception, so that temporary files are removed on the way out."""
    raise SystemExit(128 + number)
