"""What two processes may not do at once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from dallme.durable import alone


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_second_one_waits_for_the_first(tmp_path: Path) -> None:
    happened: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with alone(tmp_path / "lock"):
            happened.append("second")

    thread = threading.Thread(target=second)
    with alone(tmp_path / "lock"):
        thread.start()
        begun.wait()
        thread.join(timeout=0.2)
        happened.append("first")
    thread.join()
    assert happened == ["first", "second"]
