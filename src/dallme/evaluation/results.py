"""Training runs, learning-rate tuning, and the store that keeps their results."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dallme.classifiers.base import Classifier
from dallme.data import Budget, LabelledTexts
from dallme.errors import InputError
from dallme.evaluation.protocol import TUNING_RUNS
from dallme.files.atomic import atomic_write, checksum, sha256_of
from dallme.progress import Progress, SilentProgress, Task
from dallme.text import clean
from dallme.validation import check_positive
from dallme.versions import package_version

#: Rows of the full training data that validate a learning rate.
VALIDATION_ROWS = 1_000

#: Maximum number of rows to train on while tuning; larger sets are sampled.
TRAINING_ROWS = 2_000


def tune(
    classifier: Classifier,
    train_sets: Sequence[LabelledTexts],
    source: LabelledTexts,
    *,
    seed: int,
    runs: int = TUNING_RUNS,
    results: ResultStore | None = None,
    task: Task | None = None,
) -> tuple[Classifier, dict[float, float]]:
    """Chooses one of the classifier's ``learning_rates`` by the accuracy on held-out rows.

    Args:
        classifier: The classifier; returned unchanged if it has no learning rates to choose from.
        train_sets: Its training sets; run r trains on the set at r modulo their number.
        source: The full training data.
        seed: Seed of the samples; run r trains with the seed `seed` + r.
        runs: Trainings with each rate; their mean accuracy counts.
        results: Store of results.
        task: Progress, advanced once per training.

    Returns:
        The classifier with the best learning rate (the smaller of two equals), and the mean held-out accuracy
        by rate.

    Raises:
        InputError: If no row is left to validate or to train on.
    """
    if not classifier.learning_rates:
        return classifier, {}
    check_positive(runs, "runs")
    splits = [split(train, source, seed=seed) for train in train_sets[:runs]]
    named = classifier.with_label_names(source.label_names)
    mean_accuracies = {}
    for rate in classifier.learning_rates:
        accuracies = []
        for run in range(runs):
            train, validation = splits[run % len(splits)]
            result = train_and_test(
                _with_rate(named, rate), train, validation, seed=seed + run, results=results
            )
            accuracies.append(result.accuracy)
            if task is not None:
                task.advance()
        mean_accuracies[rate] = float(np.mean(accuracies))
    best = max(mean_accuracies, key=lambda rate: (mean_accuracies[rate], -rate))
    return _with_rate(classifier, best), mean_accuracies


def split(
    train: LabelledTexts,
    source: LabelledTexts,
    *,
    seed: int,
    validation_rows: int = VALIDATION_ROWS,
    training_rows: int = TRAINING_ROWS,
) -> tuple[LabelledTexts, LabelledTexts]:
    """Makes a training and a validation split without a shared text.

    The validation split is a stratified sample of the source, the same for every set under one seed. Rows
    that are also in `train` are excluded from it. If they are the majority, `train` is most of the source;
    then they are excluded from the training split instead. A truncated copy of a row in `train` is not
    detected.

    Raises:
        InputError: If no row is left to validate on, or fewer than two classes to train on.
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
            f"expected enough rows to choose a learning rate on, found {len(source):,} in the full data; "
            "fix the learning rate"
        )
    return sample(train, check_positive(training_rows, "training_rows"), rng), validation


def sample(texts: LabelledTexts, size: int, rng: np.random.Generator) -> LabelledTexts:
    """Draws a stratified sample of at most `size` rows, at least one of each class."""
    if len(texts) <= size:
        return texts
    budget = Budget(total=max(size, len(texts.class_counts)), allocation="proportional")
    rows = [
        rng.choice(np.flatnonzero(texts.labels == label), count, replace=False)
        for label, count in budget.allocate(texts.class_counts).items()
    ]
    return texts.take(np.sort(np.concatenate(rows)))


def _with_rate(classifier: Classifier, rate: float) -> Classifier:
    return replace(classifier, learning_rate=rate)  # type: ignore[type-var]


@dataclass(frozen=True)
class Result:
    """Result of one training run.

    Attributes:
        accuracy: Accuracy on the test set, between 0 and 1.
        macro_f1: Unweighted mean over the classes of F1.
        seconds: Time of training and testing, when it was computed.
        when: Time of the computation, ISO 8601 in UTC.
    """

    accuracy: float
    macro_f1: float
    seconds: float
    when: str


@dataclass(frozen=True)
class ResultStore:
    """Folder of results, one small JSON file each, named by the hash of everything the result depends on.

    A damaged file counts as missing. A folder that cannot be written does not stop the work; each lost result
    is noted.

    Attributes:
        folder: The folder; created with the first result.
        progress: Reporter of results that cannot be stored.
    """

    folder: Path
    progress: Progress = field(default_factory=SilentProgress, compare=False)

    def get(self, key: str) -> Result | None:
        """Returns the result stored under a key, or None."""
        try:
            content = json.loads(self._path(key).read_bytes())
            stored_checksum = content.pop("crc32", None)  # version 0.1 wrote none at first
            if stored_checksum is not None and stored_checksum != checksum(json.dumps(content).encode()):
                return None
            result = Result(
                float(content["accuracy"]),
                float(content["macro_f1"]),
                float(content["seconds"]),
                str(content["when"]),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing or damaged
            return None
        return result if 0 <= result.accuracy <= 1 and 0 <= result.macro_f1 <= 1 else None

    def put(self, key: str, result: Result) -> None:
        """Stores a result atomically; notes it if that fails."""
        path, content = self._path(key), asdict(result)
        content["crc32"] = checksum(json.dumps(content).encode())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, json.dumps(content).encode())
        except OSError as error:
            self.progress.note(
                f"a result cannot be stored in {self.folder}: {error.strerror or error}; "
                "it is computed again next time"
            )

    def _path(self, key: str) -> Path:
        return Path(self.folder) / key[:2] / f"{key}.json"


def result_key(classifier: Classifier, train: LabelledTexts, test: LabelledTexts, seed: int) -> str | None:
    """Hashes everything a result depends on with SHA-256, as hexadecimal; None if some of it is unknown.

    The hash covers the classifier with its options, texts and labels of both sets in order, the seed, and the
    versions of the training libraries. These are torch and transformers for neural classifiers, scikit-learn
    for the others.
    """
    description = classifier.describe()
    if "fingerprint" in description and description["fingerprint"] is None:  # an embedder of unknown weights
        return None
    parts = {
        "classifier": description,
        "train": train.digest,
        "test": test.digest,
        "seed": seed,
        "versions": {package: package_version(package) for package in classifier.packages},
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
    """Trains on one set and tests on another, or returns the stored result of the same run.

    Raises:
        InputError: If the texts cannot be trained or tested on; nothing is stored then.
    """
    key = None if results is None else result_key(classifier, train, test, seed)
    if results is not None and key is not None and (stored := results.get(key)) is not None:
        return stored
    from sklearn.metrics import f1_score

    if classifier.sample is not None:
        test = sample(test, classifier.sample, np.random.default_rng(0))
    started = time.perf_counter()
    fitted = classifier.fit(train.texts, train.labels, seed=seed, **_soft_labels(classifier, train))
    predicted = fitted.predict(test.texts)
    # An answer that is no class is wrong, and no class of its own.
    known = np.union1d(test.labels, predicted[np.isin(predicted, train.labels)])
    result = Result(
        accuracy=float(np.mean(predicted == test.labels)),
        macro_f1=float(f1_score(test.labels, predicted, labels=known, average="macro", zero_division=0)),
        seconds=time.perf_counter() - started,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if results is not None and key is not None:
        results.put(key, result)
    return result


def _soft_labels(classifier: Classifier, train: LabelledTexts) -> dict[str, np.ndarray]:
    """Returns the soft labels as an argument of ``fit``; empty if there are none or it cannot use them."""
    if train.probabilities is None or not classifier.soft:
        return {}
    present = np.isin(sorted(train.label_names), train.labels)
    probabilities = train.probabilities[:, present]
    return {"probabilities": probabilities / probabilities.sum(axis=1, keepdims=True)}
