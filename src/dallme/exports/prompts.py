"""The texts as examples for a language model: in a prompt, as a chat, as chats to fine-tune on."""

from __future__ import annotations

from itertools import zip_longest

from dallme.exports.base import Material, encode, encode_lines

Message = dict[str, str]


def few_shot(material: Material) -> bytes:
    """A prompt that ends where the text to classify is to be appended, followed by a new line and ``Class:``.

    White space within a text is folded, so that each text stays on its line.
    """
    shots = [f"Text: {' '.join(text.split())}\nClass: {' '.join(name.split())}\n" for text, name in _in_turn(material)]
    return encode("\n".join([_task(material) + "\n", *shots, "Text: "]))


def chat(material: Material) -> bytes:
    """One line with the whole prompt: the task as the system's message, then each text as a question with its answer.

    The text to classify is appended as the last message, of the role ``user``.
    """
    turns = [message for text, name in _in_turn(material) for message in _turn(text, name)]
    return encode_lines([{"messages": [_system(material), *turns]}])


def tuning(material: Material) -> bytes:
    """One line a text: the task, the text, its class."""
    return encode_lines([{"messages": [_system(material), *_turn(text, name)]} for text, name in _in_turn(material)])


def _in_turn(material: Material) -> list[tuple[str, str]]:
    """The classes in turn, the first text of each, then the second: models lean towards the classes they saw last."""
    by_class: dict[str, list[tuple[str, str]]] = {}
    for text, name in material.rows():
        by_class.setdefault(name, []).append((text, name))
    return [row for rows in zip_longest(*by_class.values()) for row in rows if row is not None]


def _task(material: Material) -> str:
    names = ", ".join(" ".join(name.split()) for name in material.classes)
    return f"Classify the text. Answer with the name of one of these classes and nothing else: {names}."


def _system(material: Material) -> Message:
    return {"role": "system", "content": _task(material)}


def _turn(text: str, name: str) -> list[Message]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": name}]
