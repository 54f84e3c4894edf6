"""Runs seeded random attacks and counts those that were held and lost, by kind; writes attack.json.

An attack is held if dallme reads its input or refuses it in one line. It is lost after a traceback, a
changed file, code of a folder that ran, or :data:`SECONDS` without an end, or if the server stops answering.
A signal is held if the output is as before or whole, and the next run completes it. ``--smoke`` runs a few
of each kind and writes nothing.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from _attacks import Attack, answer_attacks, inverter_attacks, model_attacks, signal_attacks
from _common import HERE, load, write
from dallme import Distiller
from dallme.auditing import audit
from dallme.auditing.inputs import AuditInput
from dallme.dataset import AUDIT, DistilledDataset
from dallme.dataset.card import check_audit, parse_audit, render
from dallme.errors import DallmeError
from dallme.readers import read
from dallme.report.page import render as render_page

sys.path += [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "attacks")]

from broken import break_bytes, break_set
from review_server import serving

#: Attacks of each kind.
COUNTS = {
    "sets": 350,
    "source files": 250,
    "requests": 100,
    "model folders": 100,
    "inverters": 100,
    "answers": 80,
    "signals": 20,
}

#: Seconds that an attack may take, and bytes of memory that all may take.
SECONDS, MEMORY = 60, 12 << 30


def attack_set(folder: Path, seed: int) -> None:
    """Breaks a file of a set and reads all of it."""
    broken = folder.parent / f"broken-{seed}"
    shutil.copytree(folder, broken)
    break_set(broken, seed)
    before = {path: path.read_bytes() for path in broken.iterdir()}
    try:
        distilled, files = DistilledDataset.read(broken)
        document = parse_audit(files[AUDIT])
        check_audit(document, distilled)
        render(distilled, audit=document)
        render_page(distilled, audit=document)
    finally:
        changed = before != {path: path.read_bytes() for path in broken.iterdir()}
        shutil.rmtree(broken)
        if changed:
            raise AssertionError("reading a set changed it")


def attack_source(folder: Path, seed: int) -> None:
    """Breaks the bytes of a source file and reads it."""
    rng = random.Random(seed)
    suffix = rng.choice([".csv", ".tsv", ".jsonl", ".parquet"])
    content = (folder / "train.parquet").read_bytes()
    if suffix != ".parquet":
        content = (folder.parent / "rows.csv").read_bytes()
    path = folder.parent / f"rows-{seed}{suffix}"
    path.write_bytes(break_bytes(content, rng))
    try:
        read(str(path))
    finally:
        path.unlink()


def attack_server(port: int, seed: int) -> None:
    """Sends a broken request to the review server, closes the connection, and asks for the version."""
    rng = random.Random(seed)
    request = (
        f"POST /save HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        'Content-Length: 60\r\n\r\n{"version": 1, "digest": "x", "changes": [{"id": 0}]}'
    ).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(break_bytes(request, rng))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=10) as answer:
        assert answer.status == 200


@contextmanager
def server_attacks(folder: Path) -> Iterator[Attack]:
    """Yields an attack on a review server of a set."""
    with serving(folder) as guard:
        yield partial(attack_server, guard.port)


def run(kind: str, attack: Attack, count: int) -> dict[str, object]:
    """Runs the attacks of one kind and prints the losses."""
    outcomes: Counter[str] = Counter()
    losses = []
    for seed in range(count):
        signal.alarm(SECONDS)
        try:
            attack(seed)
            outcomes["read"] += 1
        except DallmeError as error:
            if "\n" in str(error):
                losses.append({"seed": seed, "error": "an error of several lines"})
            else:
                outcomes["refused"] += 1
        except (Exception, Expired) as error:
            losses.append({"seed": seed, "error": f"{type(error).__name__}: {error}"[:200]})
        finally:
            signal.alarm(0)
    print(f"{kind}: {count} attacks, {count - len(losses)} held, {len(losses)} lost")
    for loss in losses:
        print(f"  {loss}")
    return {"attacks": count, "held": count - len(losses), "lost": losses, **outcomes}


class Expired(BaseException):
    """Stands for an attack without an end; no ``except Exception`` takes it for an error of the input."""


def _expire(*_: object) -> None:
    raise Expired(f"it has not ended after {SECONDS} seconds")


def attacks(root: Path, folder: Path) -> dict[str, Callable[[], AbstractContextManager[Attack]]]:
    """Returns functions that prepare the attacks of each kind, for a set in a folder."""
    return {
        "sets": lambda: nullcontext(partial(attack_set, folder)),
        "source files": lambda: nullcontext(partial(attack_source, folder)),
        "requests": lambda: server_attacks(folder),
        "model folders": lambda: model_attacks(root),
        "inverters": lambda: inverter_attacks(root),
        "answers": answer_attacks,
        "signals": lambda: signal_attacks(root),
    }


def main() -> None:
    """Runs all kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="5 attacks of each kind, nothing is written")
    parser.add_argument("--only", nargs="*", choices=COUNTS, help="kinds; the file keeps those of the others")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _expire)
    logging.disable(logging.CRITICAL)  # the server logs each malformed request
    counts = dict.fromkeys(COUNTS, 5) if options.smoke else COUNTS
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        rows = [f"a {word} film number {row},{word}" for row in range(10) for word in ("fine", "dull")]
        (root / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        texts = read(str(root / "rows.csv"))
        distilled = Distiller(per_class=2, embedder="hashing", decoder="nearest").run(texts).distilled
        folder = distilled.save(root / "few", audit=audit(AuditInput(distilled, texts)).as_dict())
        for kind, make in attacks(root, folder).items():
            if options.only and kind not in options.only:
                continue
            started = time.perf_counter()
            with make() as attack:
                found[kind] = run(kind, attack, counts[kind])
            found[kind]["seconds"] = round(time.perf_counter() - started, 1)
    known = load("attack").get("kinds", {}) | found
    kinds = {kind: known[kind] for kind in COUNTS if kind in known}
    total = round(sum(kind.get("seconds", 0) for kind in kinds.values()), 1)
    write("attack", {"seconds": total, "kinds": kinds})
    if any(kind["lost"] for kind in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
