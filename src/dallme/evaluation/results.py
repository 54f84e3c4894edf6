"""Results of training runs on disk, by what they depend on, so that no run is made twice."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from dallme.classifiers.base import Classifier
from dallme.classifiers.neural.training import NeuralClassifier
from dallme.data import LabelledTexts
from dallme.durable import checksum, replace_file
from dallme.progress import Progress, SilentProgress


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
            result = Result(float(found["accuracy"]), float(found["macro_f1"]), float(found["seconds"]), str(found["when"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # not there, or damaged
            return None
        return result if 0 <= result.accuracy <= 1 and 0 <= result.macro_f1 <= 1 else None

    def put(self, key: str, result: Result) -> None:
        """Keeps a result; it is on the disk whole, or not at all."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = asdict(result)
            replace_file(path, json.dumps(content | {"crc32": checksum(json.dumps(content).encode())}).encode())
        except OSError as error:
            self.progress.note(f"a result cannot be kept in {self.folder}: {error.strerror or error}; it is made anew next time")

    def _path(self, key: str) -> Path:
        return Path(self.folder) / key[:2] / f"{key}.json"


def result_key(classifier: Classifier, train: LabelledTexts, test: LabelledTexts, seed: int) -> str | None:
    """SHA-256 of all that a result depends on, as hexadecimal; None if some of it is not known.

    That is the classifier with its options, texts and labels of both sets in their order, the seed, and the version of
    the libraries that train: torch and transformers for neural classifiers, scikit-learn for the others.
    """
    description = classifier.describe()
    if "fingerprint" in description and description["fingerprint"] is None:  # an embedder whose weights nobody knows
        return None
    packages = ("torch", "transformers") if isinstance(classifier, NeuralClassifier) else ("scikit-learn",)
    versions = {package: _version(package) for package in packages}
    parts = {"classifier": description, "train": train.digest, "test": test.digest, "seed": seed, "versions": versions}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def train_and_test(
    classifier: Classifier, train: LabelledTexts, test: LabelledTexts, *, seed: int, results: ResultStore | None = None
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
