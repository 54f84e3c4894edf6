"""A sampler for pipelines of scikit-learn and imbalanced-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets

from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.errors import InputError
from dallme.readers import read


class DistillSampler(BaseEstimator):  # type: ignore[misc]
    """Replaces labelled texts by a few distilled ones, as imbalanced-learn's samplers replace rows.

    In a :class:`imblearn.pipeline.Pipeline` it takes part in ``fit`` only: the model is trained on the
    distilled texts, and predicts any text. The parameters are those of :class:`~dallme.distiller.Distiller`.

    Attributes:
        distilled_: The distilled set of the last call, with lineage and manifest.
        classes_: Labels of the last call, sorted, of shape (n_classes,).

    Example:
        >>> sampler = DistillSampler(per_class=1, embedder="hashing")
        >>> reviews = ["fine film", "good play", "bad film", "dull play"]
        >>> texts, labels = sampler.fit_resample(reviews, [1, 1, 0, 0])
        >>> len(texts), labels.tolist()
        (2, [0, 1])
    """

    _estimator_type = "sampler"

    def __init__(
        self,
        per_class: int | None = 10,
        *,
        ratio: float | None = None,
        total: int | None = None,
        allocation: str = "equal",
        embedder: Any = "all-MiniLM-L6-v2",
        condenser: Any = "k-centroid",
        target: str = "any",
        decoder: Any = None,
        decoder_options: dict[str, Any] | None = None,
        prompt: str | None = None,
        max_tokens: int = 128,
        random_state: int = 0,
        store: Any = None,
        redact: bool = False,
        max_personal: int | None = None,
        progress: Any = False,
    ) -> None:
        """Stores the parameters; they are checked by :meth:`fit_resample`.

        Args:
            per_class: Texts per class; None with `ratio` or `total`.
            ratio: As of the distiller.
            total: As of the distiller.
            allocation: As of the distiller.
            embedder: As of the distiller.
            condenser: As of the distiller.
            target: As of the distiller.
            decoder: As of the distiller.
            decoder_options: As of the distiller.
            prompt: As of the distiller.
            max_tokens: As of the distiller.
            random_state: The seed.
            store: As of the distiller.
            redact: As of the distiller.
            max_personal: As of the distiller.
            progress: As of the distiller.
        """
        self.per_class = per_class
        self.ratio = ratio
        self.total = total
        self.allocation = allocation
        self.embedder = embedder
        self.condenser = condenser
        self.target = target
        self.decoder = decoder
        self.decoder_options = decoder_options
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.random_state = random_state
        self.store = store
        self.redact = redact
        self.max_personal = max_personal
        self.progress = progress

    def fit(self, X: Any, y: Any) -> DistillSampler:  # noqa: N803 - scikit-learn's name
        """Checks the texts and labels; :meth:`fit_resample` does the work."""
        self._read(X, y)
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:  # noqa: N803 - scikit-learn's name
        """Distils the texts.

        Args:
            X: n texts: a list, a pandas Series, or an array or frame of shape (n,) or (n, 1).
            y: Labels of shape (n,).

        Returns:
            The distilled texts in a container like `X`, and their labels as `y` has them.

        Raises:
            InputError: If `X` holds anything but texts, `y` has one class, or a parameter is invalid.
            ValueError: If `y` holds no classes.
        """
        source = self._read(X, y)
        parameters = self.get_params(deep=False) | {"decoder_options": self.decoder_options or {}}
        distiller = Distiller(seed=parameters.pop("random_state"), **parameters)
        self.distilled_ = distiller.run(source).distilled
        labels: np.ndarray = self.classes_[self.distilled_.labels]
        return _like(X, list(self.distilled_.texts)), labels

    def _read(self, X: Any, y: Any) -> LabelledTexts:  # noqa: N803 - scikit-learn's name
        """Checks the input; class ids are positions in ``classes_``."""
        check_classification_targets(y)
        labels = np.asarray(y)
        if labels.ndim != 1:
            raise InputError(f"expected labels of shape (n,), found shape {labels.shape}")
        self.classes_, ids = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"The target 'y' needs to have more than 1 class. Got {len(self.classes_)} class instead"
            )
        texts = np.asarray(X, dtype=object)
        if texts.ndim == 2 and texts.shape[1] == 1:
            texts = texts[:, 0]
        if texts.ndim != 1 or not all(isinstance(text, str) for text in texts):
            kind = type(texts.flat[0]).__name__ if texts.size else "none"
            raise InputError(
                f"expected X to be texts of shape (n,) or (n, 1), found shape {texts.shape}, type {kind}"
            )
        return read(texts.tolist(), ids.tolist())


def _like(X: Any, texts: list[str]) -> Any:  # noqa: N803 - scikit-learn's name
    """Returns the texts in a container of the type and number of dimensions of `X`."""
    if isinstance(X, (list, tuple)):
        return texts
    array = np.array(texts, dtype=object)
    if hasattr(X, "iloc"):
        if X.ndim == 2:
            return type(X)({X.columns[0]: texts})
        return type(X)(texts, name=X.name)
    return array.reshape(-1, 1) if np.ndim(X) == 2 else array
