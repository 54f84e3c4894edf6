"""``dallme update``: puts new rows into a distilled set, and takes old ones out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from dallme.cli import options
from dallme.cli.groups import DataWithIds, grouped
from dallme.cli.output import make_progress, print_json, print_notes, print_table, show
from dallme.cli.paths import check_folder
from dallme.cli.settings import parse_settings, typed_options
from dallme.errors import InputError


@grouped
def update(
    folder: options.Folder,
    output: Annotated[Path, options.option("--output", "Folder of the next version.", options.OUTPUT)],
    data: DataWithIds,
    source: Annotated[
        str | None,
        options.option(
            "--source", "The new rows, or the whole source again: known rows count once.", options.DATA
        ),
    ] = None,
    old: Annotated[
        list[str] | None,
        options.option(
            "--old",
            "The source that the set was made from, by default the file in its manifest; after updates, one "
            "--old for each source, in order.",
            options.DATA,
        ),
    ] = None,
    drop: Annotated[
        str | None,
        options.option(
            "--drop",
            "Rows to take out: ids separated by commas, or a file with an id on each line.",
            options.DATA,
        ),
    ] = None,
    test: Annotated[
        str | None,
        options.option("--test", "Real data to test on: adds the accuracy before and after.", options.DATA),
    ] = None,
    classifiers: options.Classifiers = None,
    embedder: options.SetEmbedder = None,
    decoder: Annotated[
        str | None,
        options.option(
            "--decoder",
            "Decoder in place of the manifest's; one that opens a model must be named.",
            options.DECODER,
            autocompletion=options.parts("decoders"),
        ),
    ] = None,
    settings: options.Set = None,
    store: options.Store = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Update the set in DIR: new rows in, old rows out, the same number of texts.

    Example: dallme update distilled --source new-reviews.csv --output distilled-2
    """
    from dallme.dataset import DistilledDataset
    from dallme.updating import update as update_set
    from dallme.updating.restoring import Parts

    check_folder(output, folder, source, *(old or ()), test, overwrite=overwrite)
    if source is None and drop is None:
        raise InputError("expected new rows with --source, or rows to take out with --drop, found neither")
    chosen = parse_settings(settings or (), ("decoder",))["decoder"]
    if chosen and decoder is None:
        raise InputError("expected --decoder with the options of --set, found none; name the decoder")
    distilled = DistilledDataset.load(folder)
    made = update_set(
        distilled,
        source,
        old=old or (),
        drop=[] if drop is None else _read_ids(drop),
        read=lambda each: data.read(each, labelled=False),
        folder=folder,
        parts=Parts(
            embedder,
            decoder,
            typed_options("decoder", decoder, chosen) if decoder else None,
            options.writable_store(store),
            make_progress(),
        ),
        test=None if test is None else lambda like: data.read(test, like=like),
        classifiers=options.split_names(classifiers) if classifiers else None,
    )
    made.save(output, overwrite=overwrite)
    report = made.manifest["update"]
    print_notes(made.manifest["data"]["notes"])
    if json:
        print_json({"output": str(output), "update": report, "manifest": made.manifest.as_dict()})
        return
    _show(report, len(distilled), output)


def _read_ids(given: str) -> list[str]:
    """Returns ids that are separated by commas, or on the lines of a file.

    Raises:
        InputError: If there is none, or the file is no text.
    """
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"expected ids in the lines of {given!r}, could not read it: {error}") from None
    ids = [name.strip() for name in (given.split(",") if text is None else text.splitlines()) if name.strip()]
    if not ids:
        raise InputError(f"expected ids of rows with --drop, found none in {given!r}")
    return ids


def _show(report: dict[str, Any], before: int, output: Path) -> None:
    """Prints the change report."""
    rows, texts, gone = report["rows"], report["texts"], report["gone"]
    new = [text for text in texts if text["before"] is None]
    show(
        f"{rows['before']:,} rows + {rows['new']:,} new - {rows['dropped']:,} dropped → {len(texts):,} texts "
        f"in {output}; {rows['known']:,} known rows counted once, {rows['embedded']:,} texts embedded"
    )
    show(f"{len(texts) - len(new)} texts unchanged, {len(new)} new, {len(gone)} of {before} gone")
    body = []
    for name in dict.fromkeys([*report["classes"], *(text["class"] for text in gone)]):
        drift = report["classes"].get(name)
        own = [text for text in texts if text["class"] == name]
        fresh = [text for text in own if text["before"] is None]
        reasons = Counter(text["reason"] for text in fresh or [t for t in gone if t["class"] == name])
        body.append(
            [
                name,
                f"{drift['rows']:,} ({drift['new_rows']:,} new)" if drift else "0",
                _distances(drift),
                str(len(own) - len(fresh)),
                str(len(fresh)),
                str(sum(text["class"] == name for text in gone)),
                ", ".join(f"{reason} ({count})" for reason, count in reasons.items()),
            ]
        )
    print_table(["class", "rows", "distance old / new, p", "unchanged", "new", "gone", "why"], body)
    if accuracy := report.get("accuracy"):
        show(f"\naccuracy on {accuracy['test_rows']:,} test rows")
        cells = [
            [name, f"{value:.3f}", f"{accuracy['after'][name]:.3f}"]
            for name, value in accuracy["before"].items()
        ]
        print_table(["classifier", "before", "after"], cells)


def _distances(drift: dict[str, Any] | None) -> str:
    """Returns the mean squared distances of a class and the p-value; blank where they were not compared."""
    if drift is None or drift["p_value"] is None:
        return ""
    return f"{drift['old_distance']:.3f} / {drift['new_distance']:.3f}, {drift['p_value']:.3f}"
