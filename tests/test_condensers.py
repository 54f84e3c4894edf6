"""Condensers: one contract for all of them, and what is particular to each."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from imblearn.under_sampling import ClusterCentroids
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info, threadpool_limits

from dallme import registry
from dallme.condensers import k_centroid
from dallme.condensers.gaussian_mixture import GaussianMixture
from dallme.condensers.k_centroid import KCentroid, Medoid
from dallme.condensers.partition import fill_empty, nearest, reproducible
from dallme.condensers.random import RandomRows
from dallme.data import Fingerprint, LabelledVectors
from dallme.errors import InputError, UnknownNameError

NAMES = registry.names("condensers")
EVERY = [registry.make("condensers", name) for name in NAMES] + [KCentroid("faiss"), Medoid("faiss")]
every_condenser = pytest.mark.parametrize("condenser", EVERY, ids=repr)


def labelled(vectors, labels=None):
    labels = np.zeros(len(vectors), dtype=np.int64) if labels is None else np.asarray(labels, dtype=np.int64)
    return LabelledVectors(
        np.asarray(vectors, dtype=np.float32), labels, Fingerprint("fake", "1", np.shape(vectors)[1])
    )


def noise(rows, dimension=8, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def blobs(count, rows=10, dimension=6, seed=0):
    """`count` groups of `rows` rows, far apart; the groups take turns."""
    rng = np.random.default_rng(seed)
    centers = np.eye(count, dimension) * 10
    return (np.tile(centers, (rows, 1)) + rng.normal(0, 0.1, (count * rows, dimension))).astype(np.float32)


def sklearn_seed(seed, label=0):
    """The seed that KCentroid gives scikit-learn for a class."""
    return int(np.random.default_rng([seed, label]).integers(2**31))


def as_bytes(prototypes):
    parts = [
        prototypes.vectors,
        prototypes.labels,
        prototypes.weights,
        prototypes.spread,
        *prototypes.members,
    ]
    return b"".join(part.tobytes() for part in [*parts, *(prototypes.responsibilities or ())])


def check_contract(source, budget, prototypes):
    """Checks the contract of condensers, for every input."""
    assert prototypes.vectors.shape == (sum(budget.values()), source.vectors.shape[1])
    assert prototypes.vectors.dtype == np.float32
    assert np.isfinite(prototypes.vectors).all()
    assert prototypes.labels.tolist() == [label for label, count in budget.items() for _ in range(count)]
    for label in budget:
        rows = np.flatnonzero(source.labels == label)
        own = np.flatnonzero(prototypes.labels == label)
        assert np.sort(np.concatenate([prototypes.members[j] for j in own])).tolist() == rows.tolist()
        assert all(len(prototypes.members[j]) for j in own)
        assert prototypes.weights[own].sum() == pytest.approx(len(rows), rel=1e-9)
        assert (np.diff(prototypes.weights[own]) <= 0).all()
    for vector, members, spread in zip(
        prototypes.vectors, prototypes.members, prototypes.spread, strict=True
    ):
        distances = np.linalg.norm(source.vectors[members] - vector, axis=1)
        assert (np.diff(distances) >= 0).all()
        assert spread == pytest.approx(distances.mean(), rel=1e-5, abs=1e-7)
    if prototypes.responsibilities is not None:
        assert list(map(len, prototypes.responsibilities)) == list(map(len, prototypes.members))
        assert all(((shares >= 0) & (shares <= 1)).all() for shares in prototypes.responsibilities)


def test_every_condenser_of_the_registry_is_tested():
    assert {type(condenser) for condenser in EVERY} == {
        registry.find("condensers", name).load() for name in NAMES
    }


@every_condenser
def test_contract_on_unequal_classes(condenser):
    source = labelled(noise(120), np.arange(120) % 7 // 3 + 4)
    budget = {4: 5, 5: 11, 6: 2}
    check_contract(source, budget, condenser.condense(source, budget, seed=3))


@every_condenser
def test_one_prototype_has_all_rows(condenser):
    source = labelled(noise(30))
    prototypes = condenser.condense(source, {0: 1}, seed=0)
    check_contract(source, {0: 1}, prototypes)
    assert prototypes.weights.tolist() == [30]


@every_condenser
def test_as_many_prototypes_as_rows_are_the_rows(condenser):
    source = labelled(noise(12))
    prototypes = condenser.condense(source, {0: 12}, seed=0)
    check_contract(source, {0: 12}, prototypes)
    assert prototypes.weights.tolist() == [1] * 12
    assert (prototypes.vectors == source.vectors[np.concatenate(prototypes.members)]).all()


@every_condenser
def test_a_class_of_one_row(condenser):
    source = labelled(noise(9), [0] * 8 + [1])
    prototypes = condenser.condense(source, {0: 2, 1: 1}, seed=0)
    check_contract(source, {0: 2, 1: 1}, prototypes)
    assert prototypes.members[2].tolist() == [8]
    assert (prototypes.vectors[2] == source.vectors[8]).all()


@every_condenser
@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_rows_than_prototypes(condenser, distinct):
    source = labelled(np.tile(noise(distinct), (6, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prototypes = condenser.condense(source, {0: 5}, seed=0)
    check_contract(source, {0: 5}, prototypes)


@every_condenser
def test_threads_do_not_change_the_bytes_of_a_seed(condenser):
    source = labelled(noise(300), np.arange(300) % 2)
    first = as_bytes(condenser.condense(source, {0: 12, 1: 9}, seed=5))
    assert as_bytes(condenser.condense(source, {0: 12, 1: 9}, seed=5)) == first
    with threadpool_limits(1):
        assert as_bytes(condenser.condense(source, {0: 12, 1: 9}, seed=5)) == first
    assert as_bytes(condenser.condense(source, {0: 12, 1: 9}, seed=6)) != first


def test_scikit_learn_has_one_thread():
    # From three threads on its k-means adds up in another order each time (seen with scikit-learn 1.9).
    with reproducible():
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}


@every_condenser
def test_a_class_condenses_the_same_whatever_the_others(condenser):
    vectors, labels = noise(90), np.arange(90) % 3
    together = condenser.condense(labelled(vectors, labels), {0: 4, 1: 5, 2: 6}, seed=1)
    alone = condenser.condense(labelled(vectors[labels == 1], [1] * 30), {1: 5}, seed=1)
    assert (together.vectors[together.labels == 1] == alone.vectors).all()


@every_condenser
def test_the_callers_arrays_stay_as_they_are(condenser):
    source = labelled(noise(50))
    before = source.vectors.copy()
    source.vectors.flags.writeable = False
    prototypes = condenser.condense(source, {0: 4}, seed=0)
    assert (source.vectors == before).all()
    assert not np.shares_memory(prototypes.vectors, source.vectors)


@every_condenser
def test_more_prototypes_than_rows(condenser):
    with pytest.raises(InputError) as caught:
        condenser.condense(labelled(noise(3)), {0: 4}, seed=0)
    assert str(caught.value) == "expected at least 4 rows in class 0, found 3; ask for fewer texts"


@every_condenser
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_members_share_out_any_rows(condenser, data):
    # Few values, so that equal rows, rows of zeros and ties are common.
    rows = data.draw(st.integers(1, 12))
    source = labelled(data.draw(arrays(np.float32, (rows, 2), elements=st.sampled_from([-1, 0, 0.5, 1]))))
    budget = {0: data.draw(st.integers(1, rows))}
    check_contract(source, budget, condenser.condense(source, budget, seed=data.draw(st.integers(0, 9))))


def test_k_centroid_is_scikit_learns_on_separate_groups():
    vectors = blobs(4)
    prototypes = KCentroid().condense(labelled(vectors), {0: 4}, seed=7)
    expected = KMeans(4, n_init=1, random_state=sklearn_seed(7)).fit(vectors)
    assert sorted(map(len, prototypes.members)) == [10] * 4
    order = nearest(prototypes.vectors, expected.cluster_centers_)
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(prototypes.vectors, expected.cluster_centers_[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["scikit-learn", "faiss"])
def test_a_centroid_is_the_mean_of_its_members(backend):
    source = labelled(noise(400))
    prototypes = KCentroid(backend).condense(source, {0: 20}, seed=0)
    for vector, members in zip(prototypes.vectors, prototypes.members, strict=True):
        mean = source.vectors[np.sort(members)].mean(axis=0, dtype=np.float64).astype(np.float32)
        assert (vector == mean).all()
    assert np.linalg.norm(prototypes.vectors, axis=1).max() < 1


def test_the_inertia_of_faiss_is_close_to_scikit_learns():
    source = labelled(noise(2_000, 16))

    def inertia(backend):
        found = [KCentroid(backend).condense(source, {0: 20}, seed=seed) for seed in range(5)]
        return np.mean(
            [
                np.square(source.vectors[m] - v).sum()
                for p in found
                for m, v in zip(p.members, p.vectors, strict=True)
            ]
        )

    assert inertia("faiss") == pytest.approx(inertia("scikit-learn"), rel=0.01)


def test_auto_turns_to_faiss_above_its_threshold(monkeypatch):
    source = labelled(noise(100))
    ways = {
        name: as_bytes(KCentroid(name).condense(source, {0: 10}, seed=0))
        for name in ("scikit-learn", "faiss")
    }
    assert ways["scikit-learn"] != ways["faiss"]
    monkeypatch.setattr(k_centroid, "FAISS_ABOVE", 1_000)
    assert as_bytes(KCentroid().condense(source, {0: 10}, seed=0)) == ways["scikit-learn"]
    monkeypatch.setattr(k_centroid, "FAISS_ABOVE", 999)
    assert as_bytes(KCentroid().condense(source, {0: 10}, seed=0)) == ways["faiss"]


@pytest.mark.parametrize(("count", "rows"), [(2, 2_000), (250, 2_500)])
def test_faiss_starts_from_a_sample_that_grows_with_the_clusters(monkeypatch, count, rows):
    sizes = []

    def start(vectors, *arguments, **options):
        sizes.append(len(vectors))
        return vectors[:count], None

    monkeypatch.setattr(k_centroid, "kmeans_plusplus", start)
    vectors = np.random.default_rng(0).normal(size=(rows + 50, 3)).astype(np.float32)
    KCentroid("faiss").condense(labelled(vectors), {0: count}, seed=0)
    assert sizes == [rows]


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown backend 'cuml'; known: auto, scikit-learn, faiss"):
        KCentroid("cuml")


@pytest.mark.parametrize(("condenser", "voting"), [(Medoid(), "hard"), (KCentroid(), "soft")])
def test_imbalanced_learn_finds_the_same(condenser, voting):
    vectors = np.concatenate([blobs(5, rows=12), noise(5, 6)])
    labels = np.array([0] * 60 + [1] * 5)
    oracle = ClusterCentroids(
        estimator=KMeans(n_init=1, random_state=sklearn_seed(2)),
        voting=voting,
        sampling_strategy={0: 5, 1: 5},
    )
    resampled, classes = oracle.fit_resample(vectors, labels)
    expected = resampled[classes == 0]
    found = condenser.condense(labelled(vectors, labels), {0: 5}, seed=2).vectors
    order = nearest(found, expected)
    assert sorted(order) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found, expected[order], rtol=1e-5, atol=0 if voting == "hard" else 1e-6)


@pytest.mark.parametrize("name", ["medoid", "random"])
def test_real_rows_come_bit_by_bit_and_once_each(name):
    source = labelled(np.repeat(noise(40), 2, axis=0))
    prototypes = registry.make("condensers", name).condense(source, {0: 25}, seed=0)
    first = [members[0] for members in prototypes.members]  # the nearest comes first
    assert (prototypes.vectors == source.vectors[first]).all()
    assert len(set(first)) == 25


def test_medoid_has_the_clusters_of_k_centroid():
    source = labelled(noise(200))
    medoids, centroids = (part.condense(source, {0: 9}, seed=4) for part in (Medoid(), KCentroid()))
    for medoid, centroid in zip(medoids.members, centroids.members, strict=True):
        assert sorted(medoid) == sorted(centroid)
        assert medoid[0] == centroid[0]


def test_random_rows_are_drawn_evenly():
    source = labelled(noise(10))
    drawn = [m[0] for seed in range(300) for m in RandomRows().condense(source, {0: 3}, seed=seed).members]
    assert np.bincount(drawn, minlength=10).min() > 60  # 90 expected, standard deviation 8


def test_random_members_are_nearest_to_their_own_row():
    source = labelled(noise(150))
    prototypes = RandomRows().condense(source, {0: 10}, seed=0)
    for j, members in enumerate(prototypes.members):
        distances = np.linalg.norm(source.vectors[members][:, None] - prototypes.vectors, axis=2)
        assert (distances.argmin(axis=1) == j).all()


def test_mixture_finds_separate_groups():
    vectors = blobs(3, rows=20)
    prototypes = GaussianMixture().condense(labelled(vectors), {0: 3}, seed=0)
    np.testing.assert_allclose(prototypes.weights, [20] * 3)
    for vector, members, shares in zip(
        prototypes.vectors, prototypes.members, prototypes.responsibilities, strict=True
    ):
        np.testing.assert_allclose(vector, vectors[members].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(shares, 1)


def test_mixture_weights_and_means_follow_the_components():
    # Two groups that overlap: rows between them count for both, so that weights are no whole numbers.
    line = np.concatenate([np.linspace(-3, 1, 40), np.linspace(-1, 3, 60)])[:, None]
    prototypes = GaussianMixture("full").condense(labelled(line), {0: 2}, seed=0)
    assert prototypes.weights.sum() == pytest.approx(100)
    assert abs(prototypes.weights[0] - len(prototypes.members[0])) > 0.1
    assert min(shares.min() for shares in prototypes.responsibilities) < 0.6
    assert prototypes.weights[0] >= sum(prototypes.responsibilities[0])


@pytest.mark.parametrize("covariance_type", ["diag", "spherical", "tied", "full"])
def test_mixture_of_fewer_rows_than_dimensions(covariance_type):
    source = labelled(noise(30, dimension=40))
    check_contract(source, {0: 6}, GaussianMixture(covariance_type).condense(source, {0: 6}, seed=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance_type": "round"}, "unknown covariance_type 'round'; known: diag, spherical, tied, full"),
        ({"regularization": 0.0}, "expected regularization above 0, such as 0.1, found 0.0"),
    ],
)
def test_mixture_options(options, message):
    with pytest.raises(InputError) as caught:
        GaussianMixture(**options)
    assert str(caught.value) == message


def test_empty_clusters_take_the_farthest_rows():
    vectors = np.array([[0], [1], [9], [5], [5.5]], dtype=np.float32)
    labels = np.array([0, 0, 0, 2, 2])
    # Means are 10/3 and 5.25: the row at 9 is farthest, then the one at 0; then 1 is alone and stays.
    assert fill_empty(vectors, labels, 5).tolist() == [3, 0, 1, 4, 2]
    assert labels.tolist() == [0, 0, 0, 2, 2]


def test_nearest_in_blocks_is_nearest(monkeypatch):
    vectors, centers = noise(100), noise(7, seed=1) * np.linspace(0.2, 2, 7, dtype=np.float32)[:, None]
    expected = np.linalg.norm(vectors[:, None] - centers, axis=2).argmin(axis=1)
    monkeypatch.setattr("dallme.condensers.partition._BLOCK", 64)
    assert (nearest(vectors, centers) == expected).all()
