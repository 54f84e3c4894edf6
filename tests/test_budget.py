"""Budgets: sizes add up, every class gets its share, and messages say what to do."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallme.data import ALLOCATIONS, Budget
from dallme.errors import InputError, UnknownNameError

COUNTS = st.dictionaries(st.integers(-5, 50), st.integers(1, 500), min_size=1, max_size=8)
ALLOCATION = st.sampled_from(ALLOCATIONS)


@given(counts=COUNTS, allocation=ALLOCATION, data=st.data())
def test_a_total_is_allocated_in_full_within_the_limits(counts, allocation, data):
    total = data.draw(st.integers(len(counts), sum(counts.values())))
    sizes = Budget(total=total, allocation=allocation).allocate(counts)
    assert list(sizes) == list(counts)
    assert sum(sizes.values()) == total
    assert all(1 <= sizes[label] <= counts[label] for label in counts)


@given(counts=COUNTS, data=st.data())
def test_equal_shares_differ_only_for_exhausted_classes(counts, data):
    total = data.draw(st.integers(len(counts), sum(counts.values())))
    sizes = Budget(total=total).allocate(counts)
    most = max(sizes.values())
    assert all(sizes[label] >= min(most - 1, counts[label]) for label in counts)


@given(counts=COUNTS, allocation=ALLOCATION, data=st.data())
def test_a_larger_class_never_receives_less(counts, allocation, data):
    total = data.draw(st.integers(len(counts), sum(counts.values())))
    sizes = Budget(total=total, allocation=allocation).allocate(counts)
    by_rows = sorted(counts, key=counts.__getitem__)
    for smaller, larger in pairwise(by_rows):
        assert sizes[smaller] <= sizes[larger] or counts[smaller] == counts[larger]


@given(counts=COUNTS, allocation=ALLOCATION, data=st.data())
def test_one_text_more_takes_from_no_class(counts, allocation, data):
    total = data.draw(st.integers(len(counts), max(len(counts), sum(counts.values()) - 1)))
    less = Budget(total=total, allocation=allocation).allocate(counts)
    more = Budget(total=min(total + 1, sum(counts.values())), allocation=allocation).allocate(counts)
    assert all(less[label] <= more[label] for label in counts)


@given(counts=COUNTS, ratio=st.floats(0, 1, exclude_min=True))
def test_a_ratio_is_a_share_of_the_rows(counts, ratio):
    wanted = sum(Budget(ratio=ratio).allocate(counts).values())
    assert wanted == max(len(counts), round(ratio * sum(counts.values())))


@given(counts=COUNTS)
def test_per_class_gives_each_class_that_many(counts):
    least = min(counts.values())
    assert Budget(per_class=least).allocate(counts) == dict.fromkeys(counts, least)


@pytest.mark.parametrize(
    ("allocation", "expected"),
    [("equal", {0: 10, 1: 10}), ("proportional", {0: 18, 1: 2}), ("sqrt", {0: 15, 1: 5})],
)
def test_allocations_worked_out_by_hand(allocation, expected):
    assert Budget(total=20, allocation=allocation).allocate({0: 900, 1: 100}) == expected


def test_the_rest_of_a_small_class_goes_to_the_others():
    assert Budget(total=20).allocate({0: 100, 1: 3}) == {0: 17, 1: 3}


def test_an_odd_text_goes_to_the_larger_class():
    assert Budget(total=5).allocate({0: 10, 1: 11}) == {0: 2, 1: 3}


def test_per_class_with_another_allocation_is_an_average():
    assert Budget(per_class=10, allocation="proportional").allocate({0: 900, 1: 100}) == {0: 18, 1: 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected exactly one of per_class, ratio and total, found none"),
        (
            {"per_class": 1, "total": 2},
            "expected exactly one of per_class, ratio and total, found per_class, total",
        ),
        ({"per_class": 0}, "expected per_class to be a whole number of at least 1, found 0"),
        ({"per_class": 2.5}, "expected per_class to be a whole number of at least 1, found 2.5"),
        ({"total": True}, "expected total to be a whole number of at least 1, found True"),
        ({"ratio": 0.0}, "expected ratio in (0, 1], found 0.0"),
        ({"ratio": 1.5}, "expected ratio in (0, 1], found 1.5"),
        ({"ratio": math.nan}, "expected ratio in (0, 1], found nan"),
    ],
)
def test_sizes_that_make_no_sense(options, message):
    with pytest.raises(InputError) as caught:
        Budget(**options)
    assert str(caught.value) == message


def test_an_unknown_allocation_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown allocation 'fair'; known: equal, proportional, sqrt"):
        Budget(total=2, allocation="fair")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            Budget(per_class=5),
            "expected at least 5 rows in each class, class 'sport' has 3 different texts; "
            "ask for fewer per class, or use --total or --ratio, which give small classes fewer",
        ),
        (Budget(total=1), "expected at least one text per class, found 1 texts for 2 classes; ask for more"),
        (
            Budget(total=14),
            "expected at most as many texts as there are different ones (13), found 14; ask for fewer",
        ),
    ],
)
def test_more_or_less_than_the_classes_hold(budget, message):
    with pytest.raises(InputError) as caught:
        budget.allocate({0: 10, 1: 3}, {0: "world", 1: "sport"})
    assert str(caught.value) == message


def test_a_ratio_is_a_share_of_the_rows_repeated_ones_included() -> None:
    assert Budget(ratio=0.5).allocate({0: 6, 1: 6}, rows=20) == {0: 5, 1: 5}
    assert Budget(ratio=1.0).allocate({0: 6, 1: 6}, rows=20) == {0: 6, 1: 6}
