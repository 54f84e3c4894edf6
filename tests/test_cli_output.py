"""Lines of progress where there is no terminal."""

from __future__ import annotations

import threading
import time

import pytest

from dallme.cli.output import LineProgress


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
