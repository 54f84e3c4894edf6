"""Cost estimate of inverters: their training, the texts that they write, and the texts embedded again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dallme.data import LabelledTexts
from dallme.embedders.cost import make_plan
from dallme.errors import DallmeError
from dallme.experiments.runs import Run
from dallme.experiments.workspace import VEC2TEXT, Workspace, corrects, known_options

#: Operations a second that training is planned with: a third of an A100's peak in bfloat16.
TRAINING_RATE = 1e14

#: The same for writing texts, which waits for memory.
WRITING_RATE = 1e13

#: Rounded number of weights of the language model of each preset.
WEIGHTS = {"tiny": 2e6, "small": 1.5e7, "base": 2.2e8}

#: Mean correction steps until the texts of a prototype no longer get nearer: the shipped inverter on 24
#: prototypes of AG-News, with at most 20 steps.
MEAN_STEPS = 3.8

#: Maximum number of tokens of a written text or a text that an inverter is trained on.
WRITTEN_TOKENS = 128

#: Texts written and embedded to measure a training: ten times 100 hypotheses, ten times 100 hypotheses and
#: corrections, and the final scores of at most 500 texts.
MEASURING_TEXTS = 10 * 100 + 10 * 200 + 3 * 500


@dataclass(frozen=True)
class PlannedWriting:
    """Cost of the texts that inverters of one embedder write for one data set.

    Attributes:
        data: Name of the data set.
        embedder: Name of the embedder.
        inverters: Inverters to train.
        prototypes: Prototypes to decode.
        texts: Texts to embed in addition to the source: cut training texts, drafts, measurements, alignment,
            and the written texts of every correction step.
        tokens: Their tokens.
        price_usd: Price of these tokens; 0 for a local embedder, None if unknown.
        gpu_hours: Hours of training and writing on one GPU.
    """

    data: str
    embedder: str
    inverters: int
    prototypes: int
    texts: int
    tokens: int
    price_usd: float | None
    gpu_hours: float


@dataclass
class _Totals:
    """Sums over the runs of one data set and embedder."""

    inverters: int = 0
    prototypes: int = 0
    texts: float = 0.0
    seconds: float = 0.0  # at the rates above


def plan_writing(
    runs: Sequence[Run], workspace: Workspace, notes: list[str], seen: set[str]
) -> list[PlannedWriting]:
    """Estimates what inverters cost that runs train, and what the texts cost that they write.

    Args:
        runs: Runs without a row; those of other methods are ignored.
        workspace: Data of the runs.
        notes: Receives what is unknown, with the reason.
        seen: Inverters and recipes that were counted before, as they are shared; extended in place.
    """
    totals: dict[tuple[str, str], _Totals] = {}
    sources: dict[tuple[str, str], LabelledTexts] = {}
    for run in runs:
        if run.part != VEC2TEXT:
            continue
        place = (str(run["data"]), str(run["embedder"]))
        try:
            source = sources[place] = workspace.texts(run)[0]
            inverter = str(workspace.inverter_folder(run)) if run["inverter_steps"] else ""
            trained = not inverter or (workspace.inverter_folder(run) / "inverter.json").is_file()
        except DallmeError as error:
            notes.append(f"the cost of inverting {place[1]} on {place[0]} is unknown: {error}")
            continue
        total = totals.setdefault(place, _Totals())
        if not trained and inverter not in seen:
            seen.add(inverter)
            _add_training(total, run, source)
        recipe = str([source.digest, run.recipe(), run.grid.plan().sets])
        if recipe not in seen:
            seen.add(recipe)
            _add_writing(total, run, source)
    return [_planned(place, total, sources[place], workspace, notes) for place, total in totals.items()]


def _add_training(total: _Totals, run: Run, source: LabelledTexts) -> None:
    """Adds the training of an inverter: its steps, its drafts, and what it embeds."""
    from dallme.decoders.vec2text.backbones import TrainingOptions, find_preset

    preset = find_preset(run.grid.preset)
    options = TrainingOptions(preset=run.grid.preset, steps=run["inverter_steps"]).resolved()
    stages = 2 if corrects(run) else 1
    drafts = min(options.drafts or 0, len(source)) if stages == 2 else 0
    # A corrector also reads the current text and two more vectors.
    read = [preset.max_tokens + preset.pseudo_tokens, 2 * preset.max_tokens + 3 * preset.pseudo_tokens]
    operations = preset.batch_size * sum(read[:stages]) * 6 * WEIGHTS[run.grid.preset]
    total.inverters += 1
    total.texts += len(source) + drafts + MEASURING_TEXTS
    total.seconds += run["inverter_steps"] * operations / TRAINING_RATE
    total.seconds += _seconds_of_writing(drafts + MEASURING_TEXTS, run)


def _add_writing(total: _Totals, run: Run, source: LabelledTexts) -> None:
    """Adds the decoding of a recipe's sets, with the alignment that prompted vectors need."""
    from dallme.decoders.vec2text import ALIGNED_TEXTS, Vec2TextDecoder
    from dallme.decoders.vec2text.alignment import TEXTS

    options = Vec2TextDecoder(**known_options(VEC2TEXT, run.grid.decoder_options))
    prototypes = run.grid.plan().sets * _budget(run, source)
    written = options.beam * (1 + min(options.steps, MEAN_STEPS) * options.beam)
    total.prototypes += prototypes
    total.texts += prototypes * (written + options.beam) + run.grid.plan().sets * TEXTS
    if options.align and run["prompt"]:
        total.texts += min(ALIGNED_TEXTS, len(source))
    total.seconds += _seconds_of_writing(prototypes * written, run)


def _budget(run: Run, source: LabelledTexts) -> int:
    """Returns the number of texts of a set, without regard to small classes."""
    if run["per_class"] is not None:
        return int(run["per_class"]) * len(source.class_counts)
    return max(len(source.class_counts), round(float(run["ratio"]) * len(source)))


def _seconds_of_writing(texts: float, run: Run) -> float:
    tokens = texts * min(run.grid.max_tokens, WRITTEN_TOKENS)
    return tokens * 2 * WEIGHTS[run.grid.preset] / WRITING_RATE


def _planned(
    place: tuple[str, str], total: _Totals, source: LabelledTexts, workspace: Workspace, notes: list[str]
) -> PlannedWriting:
    """Returns the totals of a data set and embedder with their tokens and price."""
    data, name = place
    tokens, price = 0, 0.0 if name.partition(":")[0] != "openai" else None
    if price is None:
        try:
            plan = make_plan(workspace.embedder(name), source.texts)
            tokens = math.ceil(total.texts * min(plan.tokens / plan.to_embed, WRITTEN_TOKENS))
            price = None if plan.price_usd is None else plan.price_usd * tokens / plan.tokens
        except DallmeError as error:
            notes.append(f"the price of texts embedded again with {name} is unknown: {error}")
    return PlannedWriting(
        data,
        name,
        total.inverters,
        total.prototypes,
        math.ceil(total.texts),
        tokens,
        price,
        total.seconds / 3600,
    )
