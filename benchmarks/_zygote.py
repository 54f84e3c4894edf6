"""Runs `dallme` in forked processes, which need not import everything again, and kills them on the way.

Reads a JSON object a line: `argv`, `cwd`, `log`, and if wanted `at` and `signal` (which is sent to the
process by itself before its `at`-th change to the file system below `cwd`). Answers with the process's id at
once, and with its exit status (negative: the signal that killed it) and its changes to the file system at its
end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"}


def watch(cwd: str, at: int | None, number: int, count: int) -> None:
    """Counts changes to the file system into a file, and kills this process at one of them."""
    seen = 0

    def change(path: Any) -> None:
        nonlocal seen
        if isinstance(path, (str, bytes, os.PathLike)) and not os.path.abspath(os.fsdecode(path)).startswith(
            cwd
        ):
            return
        seen += 1
        os.pwrite(count, b"%8d" % seen, 0)
        if seen == at:
            os.kill(os.getpid(), number)

    def audited(event: str, arguments: tuple[Any, ...]) -> None:
        # A number names a descriptor that is open already.
        opened = event == "open" and not isinstance(arguments[0], int) and isinstance(arguments[2], int)
        written = opened and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if written or event in CHANGES:
            change(arguments[0])

    synchronise = os.fsync

    def fsync(descriptor: int) -> None:
        change(
            os.readlink(f"/proc/self/fd/{descriptor if isinstance(descriptor, int) else descriptor.fileno()}")
        )
        synchronise(descriptor)

    os.fsync = fsync  # it is not audited
    sys.addaudithook(audited)


def run(job: dict[str, Any], count: int) -> None:
    """Is the process."""
    os.setsid()
    os.chdir(job["cwd"])
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch(os.path.abspath(job["cwd"]), job.get("at"), job.get("signal", 0), count)
    sys.argv = ["dallme", *job["argv"]]
    status = 1
    try:
        import_module("dallme.cli.main").run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def main() -> None:
    """Serves until the input ends."""
    for module in json.loads(sys.argv[1]):
        import_module(module)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        count = os.memfd_create("changes")
        process = os.fork()
        if not process:
            run(job, count)
        print(process, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(json.dumps([status, int(os.pread(count, 8, 0) or 0)]), flush=True)
        os.close(count)


if __name__ == "__main__":
    main()
