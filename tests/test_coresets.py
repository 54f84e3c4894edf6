"""Core-set baselines against their definitions, by brute force on small data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from dallme import registry
from dallme.baselines import submodular, transport
from dallme.baselines.coreset import CoreSet
from dallme.baselines.submodular import FacilityLocationBaseline, GraphCutBaseline, LogDeterminantBaseline
from dallme.baselines.training_scores import EL2NBaseline, GraNdBaseline
from dallme.baselines.transport import OptimalTransportBaseline, trajectory_weights, transport_plan
from dallme.data import Fingerprint, LabelledTexts, LabelledVectors
from dallme.errors import InputError

NAMES = [
    "herding",
    "k-center",
    "facility-location",
    "graph-cut",
    "log-determinant",
    "optimal-transport",
    "least-confidence",
    "margin",
    "el2n",
    "grand",
]


@pytest.fixture(params=NAMES)
def coreset(request: pytest.FixtureRequest) -> CoreSet:
    made: CoreSet = registry.make("baselines", request.param)
    return made


def _data(
    vectors: Any, labels: Any = None, texts: list[str] | None = None
) -> tuple[LabelledTexts, LabelledVectors]:
    vectors = np.asarray(vectors, dtype=np.float32)
    labels = np.zeros(len(vectors), dtype=np.int64) if labels is None else np.asarray(labels)
    texts = texts or [f"text {row}" for row in range(len(vectors))]
    names = {label: str(label) for label in labels.tolist()}
    source = LabelledTexts(texts, labels, names, np.arange(len(vectors)))
    return source, LabelledVectors(vectors, labels, Fingerprint("made", "up", vectors.shape[1]))


def _rows(
    baseline: CoreSet, data: tuple[LabelledTexts, LabelledVectors], budget: dict[int, int], seed: int = 0
) -> list[int]:
    """The selected rows in the order of the choice."""
    found: list[int] = baseline.select(*data, budget, seed=seed).row_ids.tolist()
    return found


def _random(seed: int, rows: int = 40, dimension: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 1, size=(rows, dimension))


def _greedy(rows: int, count: int, value: Callable[[list[int]], float]) -> list[int]:
    """The plain greedy algorithm, which computes the whole function for each candidate."""
    chosen: list[int] = []
    for _ in range(count):
        left = [row for row in range(rows) if row not in chosen]
        chosen.append(max(left, key=lambda row: value([*chosen, row])))
    return chosen


def _cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


# --- what all have in common


def test_these_are_all_core_sets() -> None:
    made = {name: registry.find("baselines", name).load() for name in registry.names("baselines")}
    assert [name for name, loaded in made.items() if issubclass(loaded, CoreSet)] == NAMES


def test_vectors_must_be_there(coreset: CoreSet) -> None:
    with pytest.raises(
        InputError,
        match="expected one vector per text, found none; embed the texts before this baseline",
    ):
        coreset.select(_data(_random(0))[0], None, {0: 2}, seed=0)


def test_vectors_must_be_those_of_the_texts(coreset: CoreSet) -> None:
    with pytest.raises(InputError, match="expected vectors with 40 rows, one per text, found 39"):
        coreset.select(_data(_random(0))[0], _data(_random(0, 39))[1], {0: 2}, seed=0)


def test_no_text_comes_twice_in_a_class(coreset: CoreSet) -> None:
    labels = [0, 1] * 10
    texts = [
        f"text {row // 4}" for row in range(20)
    ]  # 5 different ones in each class, each twice; both classes hold all
    data = _data(_random(1, 20), labels, texts)
    assert sorted(_rows(coreset, data, {0: 5, 1: 5})) == [row for row in range(20) if row % 4 < 2]
    with pytest.raises(
        InputError, match="expected at least 6 different texts in class 1, found 5; ask for fewer"
    ):
        coreset.select(*data, {0: 5, 1: 6}, seed=0)


def test_a_whole_class_is_selected_despite_degenerate_vectors(coreset: CoreSet) -> None:
    vectors = np.zeros((12, 3))
    vectors[6:10] = [1, 2, 3]
    assert sorted(_rows(coreset, _data(vectors, [0] * 10 + [1] * 2), {0: 10, 1: 1})[:10]) == list(range(10))


def test_classes_do_not_see_each_other_but_through_the_probe() -> None:
    labels = np.arange(40) % 2
    vectors = _random(2)
    for name in ("herding", "k-center", "facility-location", "graph-cut", "log-determinant"):
        baseline = registry.make("baselines", name)
        file_lock = _rows(baseline, _data(vectors[labels == 1]), {0: 6})
        assert _rows(baseline, _data(vectors, labels), {0: 3, 1: 6})[3:] == [2 * row + 1 for row in file_lock]


@pytest.mark.parametrize("name", ["least-confidence", "margin", "el2n", "grand"])
def test_a_probe_needs_two_classes(name: str) -> None:
    with pytest.raises(
        InputError,
        match="expected at least 2 classes to train a probe, found 1; use another baseline",
    ):
        registry.make("baselines", name).select(*_data(_random(0)), {0: 2}, seed=0)


# --- herding and k-center


@pytest.mark.parametrize("seed", range(5))
def test_herding_keeps_the_mean(seed: int) -> None:
    vectors = _random(seed)
    mean = vectors.mean(axis=0)
    expected = _greedy(40, 12, lambda rows: -float(np.linalg.norm(vectors[rows].mean(axis=0) - mean)))
    assert _rows(registry.make("baselines", "herding"), _data(vectors), {0: 12}) == expected


@pytest.mark.parametrize("seed", range(5))
def test_k_center_takes_the_farthest(seed: int) -> None:
    vectors = _random(seed)
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    expected = [int(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1).argmin())]
    while len(expected) < 12:
        expected.append(int(distances[:, expected].min(axis=1).argmax()))
    assert _rows(registry.make("baselines", "k-center"), _data(vectors), {0: 12}) == expected


def test_k_center_is_at_most_twice_as_wide_as_the_best() -> None:
    for seed in range(5):
        vectors = _random(seed, rows=12, dimension=2)
        distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
        widths = {rows: distances[:, list(rows)].min(axis=1).max() for rows in combinations(range(12), 3)}
        chosen = tuple(sorted(_rows(registry.make("baselines", "k-center"), _data(vectors), {0: 3})))
        assert widths[chosen] <= 2 * min(widths.values())


# --- submodular functions


def _coverage(vectors: np.ndarray) -> Callable[[list[int]], float]:
    cosines = _cosines(vectors)
    return lambda rows: float(np.maximum(cosines[:, rows].max(axis=1), 0).sum())


@pytest.mark.parametrize("seed", range(5))
def test_facility_location_is_nearly_the_best_set(seed: int) -> None:
    vectors = _random(seed, rows=11)
    value = _coverage(vectors)
    best = max(value(list(rows)) for rows in combinations(range(11), 4))
    assert (
        (1 - 1 / np.e) * best
        <= value(_rows(FacilityLocationBaseline(), _data(vectors), {0: 4}))
        <= best + 1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_facility_location_equals_the_greedy_algorithm(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submodular, "_BLOCK", 7)  # so that there are several blocks, the last one short
    monkeypatch.setattr(submodular, "_AGAIN", 2)
    vectors = _random(seed)
    value = _coverage(vectors)
    expected = _greedy(
        40, 12, lambda rows: round(value(rows), 4)
    )  # rows that cover only each other are worth the same
    assert _rows(FacilityLocationBaseline(), _data(vectors), {0: 12}) == expected


def test_lazy_greedy_looks_at_few_candidates_again() -> None:
    vectors = _random(0, rows=2000, dimension=16)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best, looked = np.zeros(2000), []

    def gains(rows: np.ndarray) -> np.ndarray:
        looked.append(len(rows))
        return np.maximum(unit[rows] @ unit.T - best, 0).sum(axis=1)

    chosen = submodular._lazy_greedy(
        2000, 10, gains, lambda row: np.maximum(best, unit @ unit[row], out=best)
    )
    assert len(set(chosen.tolist())) == 10
    assert looked[:2] == [1024, 976]
    assert sum(looked[2:]) < 9 * 2000 / 2  # the plain algorithm looks at 9 x 2000


def test_a_large_class_is_covered_by_a_sample_of_its_rows() -> None:
    corners = np.eye(4)[np.arange(400) % 4] + 0.05 * _random(3, rows=400, dimension=4)
    baseline, whole = FacilityLocationBaseline(sample=80), FacilityLocationBaseline(sample=400)
    draws = [_rows(baseline, _data(corners), {0: 4}, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert all({row % 4 for row in draw} == {0, 1, 2, 3} for draw in draws)
    value = _coverage(corners)
    assert value(draws[0]) > 0.99 * value(_rows(whole, _data(corners), {0: 4}))
    assert _rows(whole, _data(corners), {0: 4}) == _rows(
        FacilityLocationBaseline(), _data(corners), {0: 4}, seed=5
    )


@pytest.mark.parametrize("redundancy", [0.0, 0.5, 1.0, 4.0])
def test_graph_cut_chooses_as_the_plain_greedy_algorithm(redundancy: float) -> None:
    for seed in range(5):
        vectors = _random(seed)
        cosines = _cosines(vectors)
        expected = _greedy(
            40,
            12,
            lambda rows, cosines=cosines: (
                cosines[:, rows].sum() - redundancy * cosines[np.ix_(rows, rows)].sum()
            ),
        )
        assert _rows(GraphCutBaseline(redundancy), _data(vectors), {0: 12}) == expected


@pytest.mark.parametrize("ridge", [0.1, 1.0])
def test_log_determinant_chooses_as_the_plain_greedy_algorithm(ridge: float) -> None:
    def value(rows: list[int], cosines: np.ndarray) -> float:
        matrix = np.eye(len(rows)) + cosines[np.ix_(rows, rows)] / ridge
        return round(
            float(np.linalg.slogdet(matrix)[1]), 6
        )  # the first row of all is worth as much as others

    for seed in range(5):
        vectors = _random(seed)
        cosines = _cosines(vectors)
        expected = _greedy(40, 12, lambda rows, cosines=cosines: value(rows, cosines))
        assert _rows(LogDeterminantBaseline(ridge), _data(vectors), {0: 12}) == expected


def test_facility_location_varies_where_a_class_is_larger_than_the_sample() -> None:
    data = _data(_random(0))
    assert FacilityLocationBaseline.varies
    assert len({tuple(_rows(FacilityLocationBaseline(8), data, {0: 5}, seed)) for seed in range(5)}) > 1
    assert len({tuple(_rows(FacilityLocationBaseline(40), data, {0: 5}, seed)) for seed in range(5)}) == 1


def test_the_length_of_a_vector_says_nothing_of_similarity() -> None:
    vectors = _random(4)
    longer = vectors * np.random.default_rng(0).uniform(0.1, 10, size=(40, 1))
    for baseline in (FacilityLocationBaseline(), GraphCutBaseline(), LogDeterminantBaseline()):
        assert _rows(baseline, _data(vectors), {0: 10}) == _rows(baseline, _data(longer), {0: 10})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LogDeterminantBaseline(ridge=0),
            "expected ridge to be a number greater than 0, found 0",
        ),
        (
            lambda: FacilityLocationBaseline(sample=0),
            "expected sample to be a whole number of at least 1, found 0",
        ),
        (
            lambda: GraphCutBaseline(redundancy=-1),
            "expected redundancy to be a number of at least 0, found -1",
        ),
        (
            lambda: GraphCutBaseline(redundancy=float("nan")),
            "expected redundancy to be a number of at least 0, found nan",
        ),
        (lambda: EL2NBaseline(probes=0), "expected probes to be a whole number of at least 1, found 0"),
        (lambda: GraNdBaseline(epochs=0), "expected epochs to be a whole number of at least 1, found 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(make: Callable[[], CoreSet], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# --- uncertainty


def _line(points: int = 41) -> tuple[LabelledTexts, LabelledVectors]:
    """Rows on a line from -1 to 1 in a shuffled order; class 1 is right of 0."""
    places = np.random.default_rng(7).permutation(np.linspace(-1, 1, points + 1))
    return _data(places[:, None] * [[1.0, 0.0]], (places > 0).astype(int))


@pytest.mark.parametrize("name", ["least-confidence", "margin"])
def test_uncertain_rows_are_on_the_border(name: str) -> None:
    texts, vectors = _line()
    rows = _rows(registry.make("baselines", name), (texts, vectors), {0: 5, 1: 5})
    places = vectors.vectors[:, 0]
    for label, found in ((0, rows[:5]), (1, rows[5:])):
        held = np.flatnonzero(texts.labels == label)
        assert found == held[np.argsort(np.abs(places[held]))][:5].tolist()


def test_least_confidence_and_margin_differ_with_three_classes() -> None:
    # Three classes in the corners of a triangle, a row of both classes amid each side, and one row near the middle.
    corners = np.array([[np.cos(angle), np.sin(angle)] for angle in np.pi * np.array([0.5, 7 / 6, 11 / 6])])
    sides = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    between = [2 * (corners[own] + corners[other]) for own, other in sides]
    vectors = np.vstack([[[0, 0.2]], between, np.repeat(4 * corners, 20, axis=0)])
    data = _data(vectors, [0] + [own for own, _ in sides] + [0] * 20 + [1] * 20 + [2] * 20)
    least_confidence, margin = (
        _rows(registry.make("baselines", name), data, {0: 3}) for name in ("least-confidence", "margin")
    )
    assert (least_confidence[0], set(least_confidence)) == (0, {0, 1, 2})
    assert (margin[2], set(margin)) == (0, {0, 1, 2})


# --- gradients


@pytest.mark.parametrize("name", ["el2n", "grand"])
def test_rows_with_a_wrong_label_have_the_largest_error(name: str) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 3
    vectors = np.eye(3)[truth] + 0.1 * rng.normal(size=(300, 3))
    labels, wrong = truth.copy(), np.array([4, 30, 77, 150, 233])
    labels[wrong] = (truth[wrong] + 1) % 3
    budget = {label: int((labels[wrong] == label).sum()) for label in set(labels[wrong].tolist())}
    rows = _rows(registry.make("baselines", name), _data(vectors, labels), budget)
    assert sorted(rows) == wrong.tolist()


def test_gradient_norm_is_error_times_input_norm() -> None:
    vectors, labels = _random(6).astype(np.float32), np.arange(40) % 2
    inputs = (vectors - vectors.mean(axis=0)) / np.sqrt(
        (np.linalg.norm(vectors - vectors.mean(axis=0), axis=1) ** 2).mean()
    )
    lengths = np.sqrt((inputs**2).sum(axis=1) + 1)
    errors = EL2NBaseline()._features(vectors, labels, np.random.default_rng(0))
    gradients = GraNdBaseline()._features(vectors, labels, np.random.default_rng(0))
    np.testing.assert_allclose(gradients, errors * lengths, rtol=1e-4)
    assert (
        _rows(EL2NBaseline(), _data(vectors, labels), {1: 3})
        == [row for row in np.argsort(-errors, kind="stable").tolist() if labels[row] == 1][:3]
    )


def test_the_error_is_that_of_a_probe_that_learns() -> None:
    texts, vectors = _line(201)
    early, late = (
        EL2NBaseline(probes=3, epochs=epochs)._features(
            vectors.vectors, texts.labels, np.random.default_rng(0)
        )
        for epochs in (1, 20)
    )
    assert (
        0 < late.mean() < early.mean() < np.sqrt(2) / 2
    )  # sqrt(2) / 2: a probe that knows nothing of two classes


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_probe_is_invariant_to_scale_and_translation(scale: float) -> None:
    vectors, labels = _random(8), np.arange(40) % 2
    data, moved = _data(vectors, labels), _data(scale * (vectors + 3), labels)
    for baseline in (EL2NBaseline(), GraNdBaseline()):
        assert _rows(baseline, data, {0: 8, 1: 8}) == _rows(baseline, moved, {0: 8, 1: 8})


def test_a_transport_plan_moves_all_mass_at_nearly_the_least_cost() -> None:
    rng = np.random.default_rng(0)
    costs, weights = rng.random((12, 3)), rng.random(12)
    weights /= weights.sum()
    plan = transport_plan(costs, weights, 0.3)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 3, atol=1e-6)
    np.testing.assert_allclose(plan.sum(axis=1), weights, atol=1e-3)
    moves = [np.kron(np.eye(12), np.ones(3)), np.tile(np.eye(3), 12)]
    least = linprog(costs.ravel(), A_eq=np.vstack(moves), b_eq=[*weights, *[1 / 3] * 3]).fun
    assert least - 1e-3 <= (plan * costs).sum() < least + 0.02


def test_rows_weigh_as_their_gradients_and_early_steps_the_most() -> None:
    vectors, labels = _random(1), np.arange(40) % 2
    first = trajectory_weights(vectors, labels, 1, 0.5)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(first, np.sqrt(0.5) * lengths)  # both classes have 1/2 before the first step
    both = [trajectory_weights(vectors, labels, 2, decay) - first for decay in (0.5, 1.0)]
    np.testing.assert_allclose(2 * both[0], both[1])
    vectors[:, 0] = 3 - 6 * labels
    vectors[0, 0] = -3  # a row among those of the other class
    weights = trajectory_weights(vectors, labels, 20, 0.9) / np.linalg.norm(vectors, axis=1)
    assert weights.argmax() == 0


def test_every_mode_gets_rows_in_proportion() -> None:
    rng = np.random.default_rng(0)
    centers = np.repeat([[5, 0], [-5, 0]], [30, 90], axis=0)
    vectors = np.vstack(
        [centers + rng.normal(size=(120, 2)) * 0.3, rng.normal(size=(40, 2)) + np.array([0, 9])]
    )
    labels = np.repeat([0, 1], [120, 40])
    weights = trajectory_weights(vectors, labels, 20, 0.9)[:120]
    share = 8 * weights[:30].sum() / weights.sum()
    for seed in range(3):
        rows = _rows(OptimalTransportBaseline(), _data(vectors, labels), {0: 8, 1: 1}, seed)
        near = [row for row in rows if row < 30]
        assert abs(len(near) - share) < 1
        assert np.ptp(vectors[near], axis=0).max() > 0.3  # they do not crowd around the mean


def test_a_large_class_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ROWS", 30)
    vectors, labels = _random(2, rows=100), np.arange(100) % 2
    rows = _rows(OptimalTransportBaseline(), _data(vectors, labels), {0: 5, 1: 5})
    assert len(set(rows)) == 10


@pytest.mark.parametrize("options", [{"steps": 0}, {"decay": 0.0}, {"decay": 1.5}, {"penalty": 0.0}])
def test_options_of_optimal_transport_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        OptimalTransportBaseline(**options)  # type: ignore[arg-type]
