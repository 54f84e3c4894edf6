"""Task prompts, and how the known families of models were trained to see them (sections 3.2 and 5.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Named templates for ``--prompt``: an instruction that says what matters in a text.
TEMPLATES = {
    "sentiment": "Classify the sentiment of the given text as positive or negative",
    "topic": "Identify the topic of the given text",
    "intent": "Identify the intent of the given utterance",
}


@dataclass(frozen=True)
class Family:
    """How a family of models wants its input.

    Attributes:
        name: What it is called.
        pattern: Regular expression found in the names of its models, in lower case.
        default: What stands before a text that is to be classified, without a task prompt.
        instructed: The same with a task prompt, which takes the place of ``{task}``.
    """

    name: str
    pattern: str
    default: str = ""
    instructed: str = "{task}: "


#: The first that fits counts. Prefixes are those of the model cards, for classification where a card tells tasks apart.
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
    # The prefixes of these are for search queries alone: a text that is to be classified has none.
    Family("bge", r"(^|/)bge-"),
    Family("gte", r"(^|/)gte-"),
    Family("mxbai", r"mxbai-embed"),
    Family("arctic", r"arctic-embed"),
)
_UNKNOWN = Family("unknown", "")


def task_prompt(prompt: str | None) -> str | None:
    """The text of a prompt: that of the template if it is the name of one, else itself; None stays None."""
    return TEMPLATES.get(prompt, prompt) if prompt is not None else None


def family_of(model: str) -> Family:
    """The family of a model by its name; an unknown one has no prefix of its own."""
    return next((family for family in FAMILIES if re.search(family.pattern, model.lower())), _UNKNOWN)


def prefix_for(model: str, prompt: str | None, own: Mapping[str, str | None] | None = None) -> str:
    """What stands before each text.

    Args:
        model: Name of the model.
        prompt: Task prompt, or None.
        own: The prompts in the model's own configuration, by name; without a task prompt one that is named
            ``classification`` comes before the table of families.

    Returns:
        The prefix, empty if there is none.
    """
    task = task_prompt(prompt)
    if task is None:
        configured = {name.lower(): text for name, text in (own or {}).items()}
        return configured.get("classification") or family_of(model).default
    if prompt not in TEMPLATES and family_of(model) is _UNKNOWN:
        # A model that was not trained on instructions sees the user's words as they are.
        return task
    return family_of(model).instructed.format(task=task.rstrip(": "))
