"""Lines of progress where there is no terminal."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings

import pytest

from dallme import Distiller, console
from dallme.cli.main import _with_flags
from dallme.cli.output import LineProgress
from dallme.progress import SilentProgress


def _wait_for(capsys: pytest.CaptureFixture[str], text: str) -> str:
    """Collects standard error until it holds a text, for at most ten seconds."""
    printed, until = "", time.monotonic() + 10
    while text not in printed and time.monotonic() < until:
        time.sleep(0.01)
        printed += capsys.readouterr().err
    return printed


def test_a_task_without_a_finished_step_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(interval=0.02).task("train", total=7):
        assert "train: 0 of 7, 0 s so far" in _wait_for(capsys, "so far")


def test_a_task_in_progress_says_how_long_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(interval=0.02).task("embed", total=2_000) as task:
        task.advance(1_000)
        assert "embed: 1,000 of 2,000, about 0 s left" in _wait_for(capsys, "left")


def test_only_the_innermost_task_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress(interval=0.02)
    with progress.task("sets", total=3):
        with progress.task("train", total=7):
            printed = _wait_for(capsys, "train: 0 of 7")
            assert "sets" not in printed.split("train: 0 of 7", 1)[1]
        assert "sets: 0 of 3" in _wait_for(capsys, "sets: 0 of 3")


def test_no_line_and_no_thread_is_left_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress(interval=0.02)
    with pytest.raises(ValueError, match="broken"), progress.task("train", total=7):
        raise ValueError("broken")
    assert "progress" not in {thread.name for thread in threading.enumerate()}
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_python_shows_progress_unless_it_is_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(Distiller(per_class=1).progress, LineProgress)
    assert isinstance(Distiller(per_class=1, progress=False).progress, SilentProgress)
    assert Distiller(per_class=1, progress=(own := SilentProgress())).progress is own
    Distiller(per_class=1, progress=False).progress.note("hidden")
    Distiller(per_class=1).progress.note("shown")
    assert capsys.readouterr().err == "note: shown\n"


def test_bars_are_drawn_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_is_notebook", lambda: True)
    assert isinstance(console.make_progress(), console.BarProgress)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("redact the source with redact=True", "redact the source with --redact"),
        (
            "ask for fewer per_class, or a higher max_personal",
            "ask for fewer --per-class, or a higher --max-personal",
        ),
        ("column 'per_class' is missing", "column 'per_class' is missing"),
    ],
)
def test_errors_name_flags_on_the_command_line(message: str, expected: str) -> None:
    assert _with_flags(message) == expected


def test_warnings_of_libraries_are_not_shown() -> None:
    code = (
        "import warnings; from dallme.cli import main\n"
        "def status():\n"
        "    warnings.filterwarnings('always')\n"  # as scikit-learn does when it is imported
        "    warnings.warn('of a library', DeprecationWarning)\n"
        "    return 0\n"
        "main._status = status\n"
        "main.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_warnings_within_a_library_are_silenced_and_others_are_not() -> None:
    inner = {"__name__": "sklearn.linear_model"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with console.quiet_libraries():
            exec("import warnings; warnings.warn('did not converge')", inner)
            warnings.warn("of the user", stacklevel=1)
        exec("import warnings; warnings.warn('afterwards')", inner)
    assert [str(warning.message) for warning in caught] == ["of the user", "afterwards"]
