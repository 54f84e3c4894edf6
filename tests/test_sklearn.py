"""The sampler for pipelines of scikit-learn and imbalanced-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import make_pipeline
from imblearn.utils.estimator_checks import check_samplers_one_label, check_target_type
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import (
    check_estimator_cloneable,
    check_estimator_repr,
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
)

from dallme.sklearn import DistillSampler

TEXTS = [f"a {word} film number {row}" for word in ("dull", "fine") for row in range(20)]
LABELS = ["bad"] * 20 + ["good"] * 20


def _sampler(**options: Any) -> DistillSampler:
    return DistillSampler(per_class=2, embedder="hashing", decoder="nearest", **options)


@pytest.mark.parametrize(
    "check",
    [
        check_target_type,
        check_samplers_one_label,
        check_estimator_cloneable,
        check_estimator_repr,
        check_get_params_invariance,
        check_no_attributes_set_in_init,
        check_set_params,
    ],
    ids=lambda check: check.__name__,
)
def test_the_checks_that_need_no_numbers_pass(check: Any) -> None:
    check("DistillSampler", _sampler())


def test_the_defaults_construct() -> None:
    check_parameters_default_constructible("DistillSampler", DistillSampler())


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        np.array(TEXTS),
        np.array(TEXTS, dtype=object).reshape(-1, 1),
        pd.Series(TEXTS, name="review"),
        pd.DataFrame({"review": TEXTS}),
    ],
    ids=["list", "array", "column", "series", "frame"],
)
def test_the_container_stays(texts: Any) -> None:
    few, labels = _sampler().fit_resample(texts, LABELS)
    assert type(few) is type(texts)
    assert np.ndim(few) == np.ndim(texts)
    assert labels.tolist() == ["bad", "bad", "good", "good"]
    flat = np.asarray(few, dtype=object).ravel().tolist()
    assert len(set(flat)) == 4
    assert set(flat) <= set(TEXTS)
    if hasattr(texts, "iloc"):
        assert (few.name if few.ndim == 1 else few.columns.item()) == "review"


def test_labels_keep_their_values() -> None:
    numbers = np.array([7] * 20 + [-2] * 20)
    assert _sampler().fit_resample(TEXTS, numbers)[1].tolist() == [-2, -2, 7, 7]
    with pytest.raises(ValueError, match=r"expected X to be texts of shape \(n,\) or \(n, 1\)"):
        _sampler().fit_resample(np.ones((40, 3)), numbers)


def test_it_resamples_in_a_pipeline_and_predicts_with_all() -> None:
    model = make_pipeline(_sampler(), TfidfVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)
    assert model.predict(["fine number", "dull number"]).tolist() == ["good", "bad"]
    assert len(model[0].distilled_) == 4
    search = GridSearchCV(model, {"distillsampler__per_class": [1, 2]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_score_ > 0.9


def test_a_clone_gives_the_same_texts() -> None:
    sampler = _sampler(random_state=3)
    first, second = sampler.fit_resample(TEXTS, LABELS), clone(sampler).fit_resample(TEXTS, LABELS)
    assert first[0] == second[0]
    assert clone(sampler).get_params() == sampler.get_params()
