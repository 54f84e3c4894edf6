"""The table of parts, and the public names."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import dallme
from dallme import registry
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, MissingDependencyError, UnknownNameError


def test_every_row_is_of_a_role_and_says_what_it_is() -> None:
    for part in registry.PARTS:
        assert part.role in registry.ROLES
        assert part.summary
        assert bool(part.packages) == bool(part.extra)


@pytest.mark.parametrize("role", registry.ROLES)
def test_names_and_aliases_of_a_role_differ(role: str) -> None:
    called = [name for part in registry.PARTS if part.role == role for name in (part.name, *part.aliases)]
    assert called
    assert len(set(called)) == len(called)
    assert registry.names(role) == [part.name for part in registry.PARTS if part.role == role]


def test_a_part_is_found_by_its_name_and_its_aliases() -> None:
    assert registry.find("classifiers", "naive-bayes") is registry.find("classifiers", "nb")
    assert registry.find("embedders", "hashing").attribute == "HashingEmbedder"


def test_the_same_name_is_another_part_in_another_role() -> None:
    assert registry.find("baselines", "random").attribute == "RandomBaseline"
    assert registry.find("condensers", "random").attribute == "RandomRows"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.find("baselines", "best")
    assert str(caught.value) == f"unknown baseline 'best'; known: {', '.join(registry.names('baselines'))}"
    assert isinstance(caught.value, InputError)


def test_make_passes_options_on() -> None:
    assert registry.make("embedders", "hashing", dimension=8) == HashingEmbedder(dimension=8)
    with pytest.raises(TypeError, match="dimensions"):
        registry.make("embedders", "hashing", dimensions=8)


def test_a_missing_package_names_the_part_and_the_command() -> None:
    part = registry.Part(
        "decoders", "x", "x", "X", "", packages=("numpy", "no_such_package"), extra="special"
    )
    assert part.missing == ("no_such_package",)
    with pytest.raises(MissingDependencyError) as caught:
        part.load()
    assert str(caught.value) == (
        "decoder 'x' needs the package 'no_such_package', which is not installed; "
        "run: pip install 'dallme[special]'"
    )


def test_every_public_name_is_there() -> None:
    for name in dallme.__all__:
        assert getattr(dallme, name).__name__ == name
    assert dir(dallme) == sorted(dallme.__all__)
    with pytest.raises(AttributeError, match="module 'dallme' has no attribute 'no_such_name'"):
        dallme.no_such_name  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    assert dallme.__version__ == version("dallme")
