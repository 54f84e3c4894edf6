"""Task prompts, and the position where each family of models expects them (sections 3.2 and 5.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Named templates for ``--prompt``: instructions that name the relevant property of a text.
TEMPLATES = {
    "sentiment": "Classify the sentiment of the given text as positive or negative",
    "topic": "Identify the topic of the given text",
    "intent": "Identify the intent of the given utterance",
}


@dataclass(frozen=True)
class Family:
    """Input format of a family of models.

    Attributes:
        name: Name of the family.
        pattern: Regular expression that matches the names of its models, in lower case.
        default: Prefix of a text to be classified, without a task prompt.
        instructed: Prefix with a task prompt, which replaces ``{task}``.
    """

    name: str
    pattern: str
    default: str = ""
    instructed: str = "{task}: "


#: The first match counts. Prefixes are those of the model cards, for classification where a card has several.
FAMILIES = (
    Family("e5-instruct", r"e5-.*instruct", instructed="Instruct: {task}\nQuery: "),
    Family("e5", r"(^|/)(multilingual-)?e5-", default="query: ", instructed="query: {task}: "),
    Family("qwen3-embedding", r"qwen3-(vl-)?embedding", instructed="Instruct: {task}\nQuery:"),
    Family("gte-instruct", r"gte-qwen.*instruct", instructed="Instruct: {task}\nQuery: "),
    Family("nomic", r"nomic-embed-text", default="classification: ", instructed="classification: {task}: "),
    Family(
        "embeddinggemma",
        r"embeddinggemma",
        default="task: classification | query: ",
        instructed="task: {task} | query: ",
    ),
    Family("bge-icl", r"bge-.*icl", instructed="<instruct>{task}\n<query>"),
    Family("instructor", r"instructor-", default="Represent the text for classification: "),
    # The prefixes of these are for search queries alone; a text to be classified has none.
    Family("bge", r"(^|/)bge-"),
    Family("gte", r"(^|/)gte-"),
    Family("mxbai", r"mxbai-embed"),
    Family("arctic", r"arctic-embed"),
)
_UNKNOWN = Family("unknown", "")


def task_prompt(prompt: str | None) -> str | None:
    """Returns the text of a prompt: the template of that name, or else the prompt itself."""
    return TEMPLATES.get(prompt, prompt) if prompt is not None else None


def family_of(model: str) -> Family:
    """Returns the family of a model by its name; an unknown one has no prefix."""
    return next((family for family in FAMILIES if re.search(family.pattern, model.lower())), _UNKNOWN)


def prefix_for(model: str, prompt: str | None, own: Mapping[str, str | None] | None = None) -> str:
    """Returns the string that precedes each text; empty if there is none.

    Args:
        model: Name of the model.
        prompt: Task prompt, or None.
        own: Prompts of the model's own configuration, by name. Without a task prompt, the one named
            ``classification`` has precedence over the table of families.
    """
    task, family = task_prompt(prompt), family_of(model)
    if task is None:
        configured = {name.lower(): text for name, text in (own or {}).items()}
        return configured.get("classification") or family.default
    if prompt not in TEMPLATES and family is _UNKNOWN:
        return task  # a model without instructions sees the user's words as they are
    return family.instructed.format(task=task.rstrip(": "))
