"""Public functions: they read their inputs and look up names, then call the packages that do the work."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.data import Budget, LabelledTexts, check_soft_labels
from dallme.dataset import DistilledDataset
from dallme.distiller import Distillation, Distiller
from dallme.errors import UnknownNameError
from dallme.files.folders import is_distilled
from dallme.progress import Progress
from dallme.readers import read

if TYPE_CHECKING:
    from dallme.auditing import Audit
    from dallme.classifiers.base import Classifier
    from dallme.evaluation.compare import Comparison
    from dallme.evaluation.curve import Curve
    from dallme.evaluation.evaluate import Score
    from dallme.evaluation.protocol import Protocol
    from dallme.evaluation.results import ResultStore


def load(path: str | Path) -> DistilledDataset:
    """Loads a distilled dataset from its folder.

    Raises:
        InputError: If the folder holds no distilled dataset.
    """
    return DistilledDataset.load(path)


def evaluate(
    texts: Any,
    test: Any,
    classifiers: Sequence[str] | Mapping[str, Classifier] | None = None,
    *,
    full: Any = None,
    distiller: Distiller | None = None,
    protocol: Protocol | str | None = None,
    results: str | Path | None = None,
    soft_labels: bool = False,
) -> list[Score]:
    """Trains classifiers on a few texts and tests them on real data.

    Args:
        texts: A distilled dataset, its folder, or any source that :func:`dallme.read` takes.
        test: Real texts of the same classes; any source.
        classifiers: Names, or name to classifier; by default the three linear models.
        full: The full data, any source: each score then has the recovered accuracy. A protocol that tunes
            needs it.
        distiller: Source of the embedder for ``embedding-lr``, the seed and the progress display.
        protocol: Number of runs and training of neural classifiers: ``"paper"``, ``"dpc"`` or a protocol.
        results: Folder that keeps results, so that nothing is trained twice.
        soft_labels: Whether classifiers that can use the soft labels of the set learn from them.

    Returns:
        One score per classifier.

    Raises:
        InputError: If a source cannot be read, or the test data have a class that the training data lack.

    Example:
        >>> few = read(["good film", "bad film"], ["good", "bad"])
        >>> test = read(["a good one", "a bad one"], ["good", "bad"])
        >>> evaluate(few, test, ["nb"])[0].accuracy
        1.0
    """
    from dallme.evaluation import evaluate as evaluation

    train = _labelled(texts, soft_labels=soft_labels)
    test, full = _labelled(test, train), None if full is None else _labelled(full, train)
    scored = evaluation.evaluate(
        train,
        test,
        _classifiers(classifiers, distiller),
        full=full,
        seed=distiller.seed if distiller else 0,
        progress=distiller.progress if distiller else None,
        protocol=_protocol(protocol),
        results=_result_store(results, distiller),
    )
    for note in evaluation.chance_notes(scored, test):
        warnings.warn(note, stacklevel=2)
    return scored


def compare(
    source: Any,
    test: Any,
    distiller: Distiller,
    methods: Sequence[str] | None = None,
    classifiers: Sequence[str] | Mapping[str, Classifier] | None = None,
    *,
    candidates: Mapping[str, Any] | None = None,
    protocol: Protocol | str | None = None,
    results: str | Path | None = None,
    soft_labels: bool = False,
    match: str = "texts",
) -> Comparison:
    """Fills one budget with several methods and compares the classifiers trained on each.

    Args:
        source: The full training data, any source, or what ``distiller.run`` made of it.
        test: Real texts of the same classes; any source.
        distiller: Its budget, embedder, condenser, decoder, seed and progress are used.
        methods: Names of baselines and decoders; by default ``random``, ``nearest``, the distiller's decoder
            and ``full``.
        classifiers: Names, or name to classifier; by default the three linear models.
        candidates: Name to a ready set to compare with, or to a list of sets, each one draw; any source.
        protocol: Number of runs and training of neural classifiers: ``"paper"``, ``"dpc"`` or a protocol.
        results: Folder that keeps results, so that nothing is trained twice.
        soft_labels: Whether to add a row with soft labels for each method that makes texts.
        match: ``texts`` compares at equal numbers of texts; ``tokens`` gives each method as many texts as fit
            the tokens of the distiller's.

    Returns:
        The comparison table, one row per method; ``print(comparison)`` shows it.

    Raises:
        InputError: If a source cannot be read, or a method applies to none of the classifiers.
        UnknownNameError: If a method or a classifier is not known; the message lists the known ones.
    """
    from dallme.evaluation import compare as comparison

    models = _classifiers(classifiers, distiller)
    chosen = comparison.check_methods(
        methods or ["random", "nearest", *_decoder_names(distiller), "full"], models
    )
    texts = source.context.source if isinstance(source, Distillation) else _labelled(source)
    test = _labelled(test, texts)
    ready = {name: _candidate(given, texts) for name, given in (candidates or {}).items()}
    distillation = source if isinstance(source, Distillation) else distiller.run(texts, test=test)
    table = comparison.compare(
        distiller,
        distillation,
        test,
        chosen,
        models,
        candidates=ready,
        protocol=_protocol(protocol),
        results=_result_store(results, distiller),
        soft_labels=soft_labels,
        match=match,
    )
    return replace(table, notes=(*dict.fromkeys((*texts.notes, *test.notes, *table.notes)),))


def curve(
    source: Any,
    test: Any,
    distiller: Distiller,
    budgets: Sequence[int | float | Budget] = (),
    methods: Sequence[str] | None = None,
    classifiers: Sequence[str] | Mapping[str, Classifier] | None = None,
    *,
    runs: int = 1,
    results: str | Path | None = None,
) -> Curve:
    """Measures accuracy against budget, from one embedding of the source.

    Args:
        source: The full training data; any source.
        test: Real texts of the same classes; any source.
        distiller: All but its budget is used.
        budgets: Texts per class as whole numbers, shares of the rows as fractions, or budgets; by default a
            series that fits the source.
        methods: Names of baselines and decoders; by default the distiller's decoder, ``nearest`` and
            ``random``.
        classifiers: Names, or name to classifier; by default the three linear models.
        runs: Sets that each decoder makes, with different seeds.
        results: Folder that keeps results, so that nothing is trained twice.

    Raises:
        InputError: If a source cannot be read, or a budget is more than a class allows.
        UnknownNameError: If a method or a classifier is not known; the message lists the known ones.
    """
    from dallme.evaluation import curve as curves

    models = _classifiers(classifiers, distiller)
    texts = _labelled(source).redacted() if distiller.redact else _labelled(source)
    return curves.curve(
        distiller,
        texts,
        _labelled(test, texts),
        [_budget(budget) for budget in budgets] or curves.default_budgets(texts),
        methods or [*_decoder_names(distiller), "nearest", "random"],
        models,
        runs=runs,
        results=_result_store(results, distiller),
    )


def audit(
    distilled: DistilledDataset | str | Path,
    source: Any,
    *,
    test: Any = None,
    max_copied_span: int | None = None,
    min_cluster: int | None = None,
    max_personal: int | None = None,
    embedder: Any = None,
    store: str | Path | None = None,
    language: str = "en",
    language_model: str | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Audits a distilled dataset: copied text, personal data, labels and readability.

    Args:
        distilled: The distilled dataset, or its folder.
        source: The data it was distilled from; any source.
        test: Test data, any source, for the check of contamination.
        max_copied_span: Maximum number of words in a row that a text may share with one source row.
        min_cluster: Minimum number of source rows behind a text.
        max_personal: Maximum number of places with personal data in all texts.
        embedder: An embedder in place of the one that the set was made with.
        store: Folder that keeps vectors, so that no text is embedded twice.
        language: ISO 639-1 code, for sentence boundaries.
        language_model: Causal model whose perplexity of the texts is measured, such as ``smollm2``; None
            measures none.
        progress: Where to show progress.

    Returns:
        The findings; ``failures`` lists the violated limits, and ``as_dict()`` is the content of
        ``audit.json``.

    Raises:
        InputError: If the source is not that of the distilled dataset, or a limit is not a whole number of at
            least 1.
    """
    from dallme import auditing
    from dallme.auditing.inputs import gather

    thresholds = auditing.Thresholds(max_copied_span, min_cluster, max_personal)
    dataset = distilled if isinstance(distilled, DistilledDataset) else load(distilled)
    texts = _labelled(source)
    test = None if test is None else _labelled(test, texts)
    return auditing.audit(
        gather(dataset, texts, embedder=embedder, store=store, progress=progress),
        test=test,
        thresholds=thresholds,
        language=language,
        language_model=language_model,
        progress=progress,
    )


def update(
    distilled: DistilledDataset | str | Path,
    source: Any = None,
    *,
    old: Any = (),
    drop: Sequence[int | str] = (),
    test: Any = None,
    classifiers: Sequence[str] | Mapping[str, Classifier] | None = None,
    embedder: Any = None,
    decoder: str | None = None,
    decoder_options: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    progress: Any = None,
    **reading: Any,
) -> DistilledDataset:
    """Updates a distilled dataset: the same number of texts, new rows in, dropped rows out.

    Args:
        distilled: The distilled dataset, or its folder; it is not changed.
        source: The new rows, or all rows again; any source. None if rows are only dropped.
        old: The source that the dataset was made from, or a list of the sources of all updates; by default
            they are looked for beside the dataset.
        drop: Ids of rows to drop.
        test: Test data, any source, on which classifiers compare the dataset before and after.
        classifiers: Names, or name to classifier; by default those of the target.
        embedder: The embedder of the dataset, where the manifest's name alone may not be used.
        decoder: A decoder in place of the manifest's; needed if that one opens a model.
        decoder_options: Options of that decoder.
        store: Folder that keeps vectors; without it old rows are embedded again.
        progress: As of :class:`Distiller`.
        **reading: Arguments of :func:`dallme.read` for the sources, such as ``id_column``.

    Returns:
        The next version. ``manifest["update"]`` lists its changes.

    Raises:
        InputError: If a source is another one than recorded, a dropped id is unknown, or nothing is new.
    """
    from dallme.updating import update as update_set
    from dallme.updating.restoring import Parts

    dataset = distilled if isinstance(distilled, DistilledDataset) else load(distilled)
    test_reading = {name: value for name, value in reading.items() if name != "id_column"}
    return update_set(
        dataset,
        source,
        old=list(old) if isinstance(old, (list, tuple)) else [old],
        drop=drop,
        read=lambda each: read(each, labelled=False, **reading),
        folder=None if isinstance(distilled, DistilledDataset) else Path(distilled),
        parts=Parts(embedder, decoder, decoder_options, store, progress),
        test=None if test is None else lambda like: read(test, like=like, **test_reading),
        classifiers=classifiers,
    )


def _labelled(source: Any, like: LabelledTexts | None = None, *, soft_labels: bool = False) -> LabelledTexts:
    """Reads a source, unless it is read already; `like` gives the class ids."""
    if isinstance(source, LabelledTexts):
        return check_soft_labels(source) if soft_labels else source
    if isinstance(source, (str, Path)) and is_distilled(Path(source)):
        source = load(source)
    if isinstance(source, DistilledDataset):
        return source.to_labelled_texts(soft_labels=soft_labels)
    texts = read(source, like=like)
    return check_soft_labels(texts) if soft_labels else texts


def _candidate(sets: Any, like: LabelledTexts) -> list[LabelledTexts]:
    """The draws of a candidate: a list of sources, or one source."""
    return [_labelled(texts, like) for texts in (sets if isinstance(sets, (list, tuple)) else [sets])]


def _classifiers(
    classifiers: Sequence[str] | Mapping[str, Classifier] | None, distiller: Distiller | None
) -> Mapping[str, Classifier]:
    from dallme.evaluation.evaluate import LINEAR, make_classifiers

    if isinstance(classifiers, Mapping):
        return classifiers
    embedder = distiller.cached_embedder if distiller else None
    return make_classifiers(LINEAR if classifiers is None else classifiers, embedder)


def _decoder_names(distiller: Distiller) -> list[str]:
    return [distiller.decoder] if isinstance(distiller.decoder, str) else []


def _protocol(protocol: Protocol | str | None) -> Protocol:
    from dallme.evaluation.protocol import DEFAULT, PROTOCOLS

    if protocol is None:
        return DEFAULT
    if not isinstance(protocol, str):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]


def _budget(budget: int | float | Budget) -> Budget:
    if isinstance(budget, Budget):
        return budget
    return Budget(per_class=budget) if isinstance(budget, int) else Budget(ratio=budget)


def _result_store(folder: str | Path | None, distiller: Distiller | None) -> ResultStore | None:
    from dallme.evaluation.results import ResultStore

    if folder is None:
        return None
    return ResultStore(Path(folder), distiller.progress) if distiller else ResultStore(Path(folder))
