"""The entry point: the verbs, and one clear line in place of a traceback."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from typing import Annotated

import typer

from dallme import __version__
from dallme.cli.audit import audit
from dallme.cli.compare import compare
from dallme.cli.curve import curve
from dallme.cli.demo import demo
from dallme.cli.distill import distill
from dallme.cli.doctor import doctor
from dallme.cli.embed import embed
from dallme.cli.evaluate import evaluate
from dallme.cli.export import export
from dallme.cli.inverters import decode, invert_check, train_inverter
from dallme.cli.parts import list_parts
from dallme.cli.plan import plan
from dallme.cli.probe import probe
from dallme.cli.push import push
from dallme.cli.report import report
from dallme.cli.reproduce import reproduce
from dallme.cli.review import review
from dallme.errors import DallmeError

app = typer.Typer(
    name="dallme",
    help="Distil a large labelled text dataset into a few readable texts, and say honestly what they are worth.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(distill)
app.command()(evaluate)
app.command()(embed)
app.command()(plan)
app.command()(probe)
app.command()(compare)
app.command()(curve)
app.command()(reproduce)
app.command()(decode)
app.command()(invert_check)
app.command()(train_inverter)
app.command()(audit)
app.command()(report)
app.command()(export)
app.command()(push)
app.command()(review)
app.command(name="list")(list_parts)
app.command()(doctor)
app.command()(demo)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"dallme {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def run() -> None:
    """Runs the command line; what the user can mend ends in one line on standard error and exit status 2."""
    # Libraries report their own progress and retries on standard error; ours says what matters.
    for library in ("datasets", "huggingface_hub", "sentence_transformers", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = _status()
    except KeyboardInterrupt:  # before the command began, or while it was ending
        status = _interrupted()
    sys.exit(status)


def _status() -> int:
    """Runs the command and gives its exit status."""
    command = typer.main.get_command(app)
    try:
        result = command.main(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except DallmeError as error:
        return _fail(str(error))
    except typer.Abort:
        return _interrupted()
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message.startswith("No such command"):
            message += f" known: {', '.join(getattr(command, 'commands', {}))}"
        return _fail(f"{message.rstrip('.')}; see --help") if message else 0
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The reader of our output is gone, as in `dallme list | head`: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            return _fail(
                f"expected to read and write files, could not: {error}; make room, or see to the permissions"
            )
        raise
    except MemoryError:
        return _fail("expected enough memory, found too little; use a smaller source or a faster embedder")


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _interrupted() -> int:
    print(
        "interrupted; the same command continues where this one stopped (train-inverter with --resume)",
        file=sys.stderr,
    )
    return 130


def _terminate(number: int, frame: object) -> None:
    """Ends as an error does, so that nothing half-written stays."""
    raise SystemExit(128 + number)
