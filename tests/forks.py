"""Scripts that run in forks of one process, in which the large packages are imported already."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

#: Modules that scripts import in seconds; a fork has them at once.
MODULES = (
    "sentence_transformers",
    "sklearn.linear_model",
    "sklearn.manifold",
    "faiss",
    "transformers.models.bert.modeling_bert",
    "dallme.distiller",
    "dallme.evaluation.compare",
    "dallme.report.page",
    "dallme.auditing.inputs",
)


def _execute(
    path: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], outputs: Sequence[str]
) -> None:
    """Runs a script as a new process does; `outputs` are the files of standard output and error."""
    for descriptor, name in enumerate(outputs, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork ends without them
        sys.stdout.flush()


def run_script(
    path: Path, *arguments: str, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fork whose working directory is `folder`."""
    context = multiprocessing.get_context("forkserver")
    assert isinstance(context, ForkServerContext)
    context.set_forkserver_preload(list(MODULES))
    with tempfile.TemporaryDirectory() as place:
        outputs = [f"{place}/stdout", f"{place}/stderr"]
        process = context.Process(
            target=_execute, args=(str(path), arguments, str(folder), dict(environment), outputs)
        )
        process.start()
        process.join()
        printed = [Path(name).read_text() for name in outputs]
    assert process.exitcode is not None
    return subprocess.CompletedProcess([str(path), *arguments], process.exitcode, *printed)
