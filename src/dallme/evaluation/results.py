"""Results of training runs on disk, by what they depend on, so that no run is made twice."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from dallme.atomic import atomic_write, checksum, sha256_of
from dallme.classifiers.base import Classifier
from dallme.classifiers.training import NeuralClassifier
from dallme.data import Budget, LabelledTexts
from dallme.errors import InputError
from dallme.evaluation.protocol import TUNING_RUNS
from dallme.progress import Progress, SilentProgress, Task
from dallme.text import clean
from dallme.validation import check_positive

#: Rows of the full training data that a learning rate is chosen on.
VALIDATION_ROWS = 1_000

#: Rows that are trained on for the choice; of larger sets a sample is taken.
TRAINING_ROWS = 2_000


def tune(
    classifier: Classifier,
    train_sets: Sequence[LabelledTexts],
    source: LabelledTexts,
    *,
    seed: int,
    runs: int = TUNING_RUNS,
    results: ResultStore | None = None,
    validation_rows: int = VALIDATION_ROWS,
    training_rows: int = TRAINING_ROWS,
    task: Task | None = None,
) -> tuple[Classifier, dict[float, float]]:
    """Trains with each of the classifier's ``learning_rates`` and keeps the one that is best on held-out rows.

    Args:
        classifier: What is tuned; it is returned as it is if it has no learning rates to choose from.
        train_sets: The sets that it is to be trained on; run r trains on the set at r modulo their number.
        source: The full training data.
        seed: Seed of the samples; run r trains with the seed `seed` + r.
        runs: Trainings with each rate, whose mean accuracy counts: on few texts a single one says little.
        results: Where results are kept.
        validation_rows: Rows to validate on; fewer where they would be more than half of the source.
        training_rows: Most rows to train on for the choice.
        task: Progress, advanced by one for each training.

    Returns:
        The classifier with the best learning rate, the smaller of two that are equally good, and the mean accuracy on the
        held-out rows by learning rate.

    Raises:
        InputError: If no row is left to validate or to train on.
    """
    if not classifier.learning_rates:
        return classifier, {}
    check_positive(runs, "runs")
    limits = {"validation_rows": validation_rows, "training_rows": training_rows}
    parts = [split(train, source, seed=seed, **limits) for train in train_sets[:runs]]
    named = classifier.with_label_names(source.label_names)
    accuracies = {}
    for rate in classifier.learning_rates:
        found = []
        for run in range(runs):
            result = train_and_test(
                _with_rate(named, rate), *parts[run % len(parts)], seed=seed + run, results=results
            )
            found.append(result.accuracy)
            if task is not None:
                task.advance()
        accuracies[rate] = float(np.mean(found))
    best = max(accuracies, key=lambda rate: (accuracies[rate], -rate))
    return _with_rate(classifier, best), accuracies


def split(
    train: LabelledTexts,
    source: LabelledTexts,
    *,
    seed: int,
    validation_rows: int = VALIDATION_ROWS,
    training_rows: int = TRAINING_ROWS,
) -> tuple[LabelledTexts, LabelledTexts]:
    """The rows to train on for a choice, and those to validate on; no text is in both.

    The validation rows are a stratified sample of the source, under one seed the same for every set. Of those the ones
    that stand in `train` are left out; where these are most of them, `train` is much of the source, and it is `train`
    that they are left out of. A row that stands in `train` cut short is not noticed.

    Raises:
        InputError: If no row is left to validate or fewer than two classes to train on.
    """
    size = min(check_positive(validation_rows, "validation_rows"), len(source) // 2)
    rng = np.random.default_rng([seed, 1])
    validation, known = sample(source, size, rng), set(train.texts)
    fresh = [
        row for row, text in enumerate(validation.texts) if text not in known and clean(text) not in known
    ]
    if 2 * len(fresh) >= len(validation):
        validation = validation.take(fresh)
    else:
        held_out = set(validation.texts)
        train = train.take([row for row, text in enumerate(train.texts) if text not in held_out])
    if not len(validation) or len(train.class_counts) < 2:
        raise InputError(
            f"expected enough rows to choose a learning rate on, found {len(source):,} in the full data; fix the learning rate"
        )
    return sample(train, check_positive(training_rows, "training_rows"), rng), validation


def sample(texts: LabelledTexts, size: int, rng: np.random.Generator) -> LabelledTexts:
    """Rows drawn at random, from each class in proportion to its rows and at least one; all if there are no more than `size`."""
    if len(texts) <= size:
        return texts
    budget = Budget(total=max(size, len(texts.class_counts)), allocation="proportional").allocate(
        texts.class_counts
    )
    drawn = [
        rng.choice(np.flatnonzero(texts.labels == label), count, replace=False)
        for label, count in budget.items()
    ]
    return texts.take(np.sort(np.concatenate(drawn)))


def _with_rate(classifier: Classifier, rate: float) -> Classifier:
    return replace(classifier, learning_rate=rate)  # type: ignore[type-var]


@dataclass(frozen=True)
class Result:
    """What one training run gave.

    Attributes:
        accuracy: Accuracy on the test set, between 0 and 1.
        macro_f1: Unweighted mean over the classes of F1.
        seconds: Time of training and testing, when it was computed.
        when: When that was, ISO 8601 in UTC.
    """

    accuracy: float
    macro_f1: float
    seconds: float
    when: str


@dataclass(frozen=True)
class ResultStore:
    """A folder of results, one small JSON file each, named by the hash of all that the result depends on.

    A damaged file counts as none. A folder that cannot be written costs the keeping of results, not the results: this is
    said once for each of them.

    Attributes:
        folder: The folder; it is made when the first result is kept.
        progress: Where to say that a result cannot be kept.
    """

    folder: Path
    progress: Progress = field(default_factory=SilentProgress, compare=False)

    def get(self, key: str) -> Result | None:
        """The result that is kept under a key, or None."""
        try:
            found = json.loads(self._path(key).read_bytes())
            known = found.pop("crc32", None)  # those of earlier versions have none
            if known is not None and known != checksum(json.dumps(found).encode()):
                return None
            result = Result(
                float(found["accuracy"]),
                float(found["macro_f1"]),
                float(found["seconds"]),
                str(found["when"]),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # not there, or damaged
            return None
        return result if 0 <= result.accuracy <= 1 and 0 <= result.macro_f1 <= 1 else None

    def put(self, key: str, result: Result) -> None:
        """Keeps a result; it is on the disk whole, or not at all."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = asdict(result)
            atomic_write(
                path, json.dumps(content | {"crc32": checksum(json.dumps(content).encode())}).encode()
            )
        except OSError as error:
            self.progress.note(
                f"a result cannot be kept in {self.folder}: {error.strerror or error}; it is made anew next time"
            )

    def _path(self, key: str) -> Path:
        return Path(self.folder) / key[:2] / f"{key}.json"


def result_key(classifier: Classifier, train: LabelledTexts, test: LabelledTexts, seed: int) -> str | None:
    """SHA-256 of all that a result depends on, as hexadecimal; None if some of it is not known.

    That is the classifier with its options, texts and labels of both sets in their order, the seed, and the version of
    the libraries that train: torch and transformers for neural classifiers, scikit-learn for the others.
    """
    description = classifier.describe()
    if (
        "fingerprint" in description and description["fingerprint"] is None
    ):  # an embedder whose weights nobody knows
        return None
    packages = ("torch", "transformers") if isinstance(classifier, NeuralClassifier) else ("scikit-learn",)
    versions = {package: _version(package) for package in packages}
    parts = {
        "classifier": description,
        "train": train.digest,
        "test": test.digest,
        "seed": seed,
        "versions": versions,
    }
    return sha256_of([json.dumps(parts, sort_keys=True)])


def train_and_test(
    classifier: Classifier,
    train: LabelledTexts,
    test: LabelledTexts,
    *,
    seed: int,
    results: ResultStore | None = None,
) -> Result:
    """One run: trains on one set and tests on another, or takes the result from the store.

    Raises:
        InputError: If the texts cannot be trained or tested on; nothing is kept then.
    """
    key = None if results is None else result_key(classifier, train, test, seed)
    if results is not None and key is not None and (kept := results.get(key)) is not None:
        return kept
    started = time.perf_counter()
    predicted = classifier.fit(train.texts, train.labels, seed=seed).predict(test.texts)
    result = Result(
        accuracy=float(np.mean(predicted == test.labels)),
        macro_f1=float(f1_score(test.labels, predicted, average="macro", zero_division=0)),
        seconds=time.perf_counter() - started,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if results is not None and key is not None:
        results.put(key, result)
    return result


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
