"""Interrupts `dallme` at random points, and checks that nothing is lost, half-written or different.

Without options all verbs are interrupted, and interruptions.json is written. ``--only embed`` replaces the
results of one verb. ``--trials 1`` is a short run that only prints.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _common import SMOKE, load, make_parser, pick, write
from _kills import MODULES, TRAINING_MODULES, Ended, Moment, Zygote, left_over, small_disk
from _set_victims import local_hub
from _victim import Victim
from _victims import interrupt, victims

#: Trials of each verb; slow verbs have fewer.
TRIALS = {
    "distill": 20,
    "distill --overwrite": 6,
    "evaluate": 10,
    "export": 10,
    "push": 12,
    "embed": 32,
    "train-inverter": 14,
    "reproduce": 36,
    "review": 30,
}

#: Upper bound on the kills of a trial.
KILLS = 3


def killed(victim: Victim, zygote: Zygote, root: Path, trials: int, rng: random.Random) -> dict[str, Any]:
    """Kills at random times and at random changes to the file system."""
    kinds: Counter[str] = Counter()
    missed, losses = 0, []
    for number in range(trials):
        moments = [Moment.draw(rng, victim.seconds, victim.changes) for _ in range(KILLS)]
        trial = interrupt(victim, zygote, root / f"kill{number}", moments)
        kinds.update(f"{moment.signal} at a random {moment.how}" for moment in trial.kills)
        missed += trial.missed
        losses += trial.losses
        shutil.rmtree(root / f"kill{number}", ignore_errors=True)
    return {
        "trials": trials,
        "kills": sum(kinds.values()),
        "by_kind": dict(sorted(kinds.items())),
        "missed": missed,
        "losses": losses,
    }


def full_disk(victim: Victim, zygote: Zygote, root: Path, trials: int, rng: random.Random) -> dict[str, Any]:
    """Runs on a file system with too little room, and again with enough."""
    refused, fitted, losses, messages = 0, 0, [], set()
    needed = sum(path.stat().st_size + 4096 for path in (root / "learn").rglob("*") if path.is_file())
    for number in range(trials):
        work = root / f"disk{number}"
        with small_disk(work, 2**26) as remount:
            victim.prepare(work)
            used = sum(-(-path.stat().st_blocks * 512 // 4096) * 4096 for path in work.rglob("*"))
            remount(f"size={used + int(needed * rng.random()) // 4096 * 4096 + 4096}")
            ended = victim.run(zygote, work, {})
            losses += _check_refusal(victim, work, ended)
            refused, fitted = refused + bool(ended.status), fitted + (not ended.status)
            messages.add(ended.refused.replace(str(work), "…")[:300])
            remount("size=64m")
            if not victim.is_done(work):
                victim.run(zygote, work, {})
            if not victim.is_done(work):
                losses.append("the result after there was room differs from an uninterrupted run's")
    return {
        "trials": trials,
        "refused": refused,
        "fitted": fitted,
        "messages": sorted(messages - {""}),
        "losses": losses,
    }


def _check_refusal(victim: Victim, work: Path, ended: Ended) -> list[str]:
    if not ended.status:
        return [] if victim.is_done(work) else ["it reported success without the complete result"]
    found = [] if ended.refused else [f"no clear error: {ended.told[-400:]}"]
    found += [f"left {name}" for name in left_over(work) if name != "inverter.partial"]
    return found + [wrong for wrong in [victim.problem(work)] if wrong]


def read_only(victim: Victim, zygote: Zygote, root: Path) -> dict[str, Any]:
    """Runs in a file system that may not be written to."""
    work = root / "readonly"
    with small_disk(work, 2**26) as remount:
        victim.prepare(work)
        remount("ro")
        ended = zygote.run(victim.argv, work)
        losses = [] if ended.refused else [f"no clear error: {ended.status} {ended.told[-400:]}"]
    return {"trials": 1, "message": ended.refused.replace(str(work), "…"), "losses": losses}


def damaged(
    victim: Victim, zygote: Zygote, root: Path, what: str, trials: int, rng: random.Random
) -> dict[str, Any]:
    """Cuts a kept file short, or flips one of its bits; then runs again, and compares."""
    told, losses, kept = 0, [], []
    for number in range(trials):
        work = root / f"damage{number}"
        victim.prepare(work)
        at = int(victim.changes * rng.uniform(0.5, 0.9)) if what == "inverter.partial/*" else None
        victim.run(zygote, work, {} if at is None else {"at": at, "signal": 9})
        files = sorted(path for path in work.glob(what) if path.is_file())
        if not files:
            continue
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        if rng.random() < 0.5:
            del content[rng.randrange(len(content)) :]
        else:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(content))
        if what != "inverter.partial/*" and not what.startswith("results"):
            _remove(work / victim.output)
        ended = victim.run(zygote, work, {})
        if not victim.is_done(work):
            losses.append(f"{path.name} of {len(content)} bytes: the result differs; {ended.told[-300:]}")
        kept.append(all(other.exists() for other in files if other != path))
        told += "damaged" in ended.told
        shutil.rmtree(work, ignore_errors=True)
    return {"trials": len(kept), "told": told, "other_files_kept": sum(kept), "losses": losses}


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def at_once(
    victim: Victim, zygotes: Sequence[Zygote], root: Path, trials: int, rng: random.Random
) -> dict[str, Any]:
    """Two processes with one store and one output."""
    statuses: Counter[str] = Counter()
    losses, messages = [], set()
    for number in range(trials):
        work = root / f"both{number}"
        victim.prepare(work)
        ended: list[Ended] = []

        def run(zygote: Zygote, wait: float, into: list[Ended] = ended, place: Path = work) -> None:
            threading.Event().wait(wait)
            into.append(victim.run(zygote, place, {}))

        gap = rng.choice([0.0, 0.0, rng.uniform(0, victim.seconds / 2)])
        threads = [
            threading.Thread(target=run, args=(zygote, gap * place)) for place, zygote in enumerate(zygotes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses.update(
            "done" if not each.status else "refused" if each.refused else "failed" for each in ended
        )
        messages.update(each.refused.replace(str(work), "…") for each in ended if each.refused)
        losses += [
            f"no clear error: {each.told[-400:]}" for each in ended if each.status and not each.refused
        ]
        if all(each.status for each in ended):
            losses.append("both were refused")
        if not victim.is_done(work) or left_over(work):
            losses.append(f"the result differs, or something is left: {left_over(work)}")
        shutil.rmtree(work, ignore_errors=True)
    return {
        "trials": trials,
        **dict(sorted(statuses.items())),
        "messages": sorted(messages),
        "losses": losses,
    }


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Runs a trial; returns the reason if this machine cannot run it."""
    try:
        return work()
    except PermissionError as error:
        return {"skipped": str(error)}


def save(verb: str, results: dict[str, Any]) -> None:
    """Writes the results of a verb; the file keeps the others."""
    known = load("interruptions").get("verbs", {}) | {verb: results}
    write("interruptions", {"verbs": {name: known[name] for name in TRIALS if name in known}})


def main() -> None:
    """Runs everything and writes the results."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--trials", type=int, default=pick(None, 1), help="trials of each kind; the results are only printed"
    )
    parser.add_argument("--only", nargs="*", default=pick(None, ["embed"]), help="names of verbs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, local_hub() as hub:
        modules = MODULES + pick(TRAINING_MODULES, ())
        zygotes = [Zygote(modules), Zygote(modules)]
        zygote, rng = zygotes[0], random.Random(options.seed)
        os.chmod(place, 0o755)
        for number, victim in enumerate(victims(hub=hub)):
            if options.only and victim.name not in options.only:
                continue
            root = Path(place) / str(number)
            victim.learn(zygote, root / "learn")
            many, few = (
                options.trials or TRIALS[victim.name],
                options.trials or (5 if TRIALS[victim.name] >= 20 else 2),
            )
            found: dict[str, Any] = {"seconds": round(victim.seconds, 2), "changes": victim.changes}
            found["killed"] = killed(victim, zygote, root, many, rng)
            if victim.name not in ("review", "push"):  # one serves, one writes nothing
                found["full_disk"] = attempt(lambda: full_disk(victim, zygote, root, few, rng))  # noqa: B023 - it is called at once
                found["read_only"] = attempt(lambda: read_only(victim, zygote, root))  # noqa: B023
            if victim.name != "distill --overwrite":
                found["two_at_once"] = at_once(victim, zygotes, root, few, rng)
            for what in {
                "embed": ["store/*/*.arrow"],
                "train-inverter": ["inverter.partial/*"],
                "reproduce": ["results/offline/toy/rows.jsonl", "store/results/*/*.json"],
            }.get(victim.name, []):
                found.setdefault("damaged", {})[what] = damaged(victim, zygote, root, what, 3 * few, rng)
            print(victim.name, json.dumps(found, indent=1), flush=True)
            if options.trials is None or SMOKE:  # a smoke run prints them
                save(victim.name, found)
        for each in zygotes:
            each.close()


if __name__ == "__main__":
    main()
