"""What the shell completes in the place of an option's value."""

from __future__ import annotations

from collections.abc import Callable

from dallme import registry

#: Models that may be named beside the parts of the role.
_MODELS = ("all-MiniLM-L6-v2",)


def parts(*roles: str, several: bool = False) -> Callable[[str], list[str]]:
    """Completes the names of parts.

    Args:
        *roles: Roles of the registry whose parts may be named.
        several: Whether the value is a comma-separated list; then its last name is completed.

    Returns:
        What typer's ``autocompletion`` takes: a function from the value as far as it is typed to the possible values.
    """
    names = [name for role in roles for name in registry.names(role)]
    return _completer([*_MODELS, *names] if "embedders" in roles else names, several=several)


def words(*known: str) -> Callable[[str], list[str]]:
    """Completes one of the given words; as :func:`parts`."""
    return _completer(list(known), several=False)


def _completer(known: list[str], *, several: bool) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in taken]

    return complete
