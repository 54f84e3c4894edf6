"""Options of parts on the command line: ``--set ROLE.OPTION=VALUE``, read from the dataclass of the part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from dallme import registry
from dallme.cli.output import show_note
from dallme.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from typer import Context

#: The roles whose options can be set, by the word before the dot.
ROLES = {
    "classifier": "classifiers",
    "embedder": "embedders",
    "condenser": "condensers",
    "decoder": "decoders",
}

#: Flags of version 0.1 and the keys of ``--set`` that replace them. The next version removes them.
OLD_FLAGS = {
    "--align": "decoder.align",
    "--beam": "decoder.beam",
    "--decoder-steps": "decoder.steps",
    "--dimensions": "embedder.dimensions",
    "--drafts": "decoder.drafts",
    "--examples": "decoder.examples",
    "--language": "decoder.language",
    "--max-copied-span": "decoder.max_copied_span",
    "--output-price": "decoder.output_price",
    "--start": "decoder.start",
    "--temperature": "decoder.temperature",
    "--unknown-words": "embedder.unknown",
}

#: Old flags without a value.
_SWITCHES = ("--align",)

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

#: Type of a field → how a value is read, and what is accepted.
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "bool": (lambda value: _BOOLEANS[value.lower()], "true or false"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "str": (str, "a text"),
}


class SettingsCommand(TyperCommand):
    """A verb with ``--set`` that also takes the flags of version 0.1 which ``--set`` replaces."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Rewrites old flags, with a note for each, and parses the rest as usual."""
        own = {name for parameter in self.params for name in parameter.opts}
        args, notes = rewrite_flags(args, {old: key for old, key in OLD_FLAGS.items() if old not in own})
        for note in notes if not ctx.resilient_parsing else ():
            show_note(note)
        return super().parse_args(ctx, args)


def rewrite_flags(arguments: Sequence[str], old: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Replaces old flags by ``--set``.

    Args:
        arguments: The arguments of a verb.
        old: Flag to key of ``--set``.

    Returns:
        The new arguments, and one note for each replaced flag.
    """
    rewritten: list[str] = []
    notes: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            return [*rewritten, argument, *waiting], notes
        flag, equals, value = argument.partition("=")
        if flag not in old or not (equals or waiting or flag in _SWITCHES):
            rewritten.append(argument)
            continue
        if not equals:
            value = "true" if flag in _SWITCHES else waiting.pop(0)
        rewritten += ["--set", f"{old[flag]}={value}"]
        notes.append(f"{flag} is now --set {old[flag]}={value}; {flag} will be removed in the next version")
    return rewritten, notes


def parse_settings(settings: Sequence[str], roles: Sequence[str] = tuple(ROLES)) -> dict[str, dict[str, str]]:
    """Parses ``ROLE.OPTION=VALUE``; of an option that is given twice the last value counts.

    Args:
        settings: The values of ``--set``.
        roles: The roles that the verb uses.

    Returns:
        Role to option to value, for each of `roles`.

    Raises:
        InputError: If a setting has another form, or names a role that the verb does not use.
    """
    parsed: dict[str, dict[str, str]] = {role: {} for role in roles}
    for setting in settings:
        key, equals, value = setting.partition("=")
        role, dot, option = key.partition(".")
        if not (equals and dot and option):
            raise InputError(
                f"expected --set ROLE.OPTION=VALUE, such as {roles[-1]}.OPTION=VALUE, found {setting!r}"
            )
        if role not in roles:
            raise UnknownNameError("role in --set", role, roles)
        parsed[role][option.replace("-", "_")] = value
    return parsed


def part_class(role: str, name: str) -> type:
    """Returns the class of a part; a string that names no embedder names a sentence-transformers model."""
    if role == "embedder":
        from dallme.embedders import parse

        return parse(name)[0].load()
    return registry.split(ROLES[role], name)[0].load()


def option_types(role: str, name: str) -> dict[str, list[str]]:
    """Returns the options of a part that a command line can set, each with the names of its types."""
    found = {}
    for field in fields(part_class(role, name)):
        types = [word.strip() for word in str(field.type).split("|")]
        if field.init and set(types) <= {*_READERS, "None"}:
            found[field.name] = types
    return found


def typed_options(role: str, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Converts options to the types that the dataclass of the part declares.

    Args:
        role: ``embedder``, ``condenser`` or ``decoder``.
        name: The part: ``NAME`` or ``NAME:ARGUMENT``.
        values: Option to value as typed; ``none`` means None if the option may be None.

    Raises:
        InputError: If the part lacks an option, a value has another type, or an option is in the name too.
    """
    if not values:
        return {}
    known = option_types(role, name)
    in_name = getattr(part_class(role, name), "argument", None) if ":" in name else None
    typed = {}
    for option, value in values.items():
        if option not in known:
            options = f"Options: {', '.join(known)}." if known else "It has no options."
            raise InputError(f"{role.capitalize()} {name!r} has no option {option!r}. {options}")
        if option == in_name:
            raise InputError(
                f"expected option {option!r} of {role} {name!r} once, found it in the name and in --set"
            )
        typed[option] = _convert(f"{role}.{option}", value, known[option])
    return typed


def _convert(key: str, value: str, types: Sequence[str]) -> Any:
    if "None" in types and value.lower() == "none":
        return None
    accepted = []
    for kind in (name for name in _READERS if name in types):
        convert, words = _READERS[kind]
        try:
            return convert(value)
        except (ValueError, KeyError):
            accepted.append(words)
    wanted = " or ".join([*accepted, *(["none"] if "None" in types else [])])
    raise InputError(f"expected --set {key} to be {wanted}, found {value!r}")
