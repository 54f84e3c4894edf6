"""The budgets of a curve: which ones fit the data, in which order, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dallme.budget import Budget
from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.errors import InputError

#: Texts per class and shares of the rows that are measured where the user names none.
PER_CLASS = (1, 2, 5, 10, 20, 50, 100)
RATIOS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Step:
    """One budget of a curve.

    Attributes:
        budget: As it was asked for.
        texts: Texts in all.
        ratio: Texts as a share of the rows, the distillation ratio.
    """

    budget: Budget
    texts: int
    ratio: float

    @property
    def words(self) -> str:
        """The budget as a person would say it."""
        if self.budget.per_class is not None:
            return f"{self.budget.per_class:,} text{'s' if self.budget.per_class > 1 else ''} a class"
        return f"{self.texts:,} texts" if self.budget.ratio is None else f"{100 * self.budget.ratio:.3g}% of the rows"


def default_budgets(texts: LabelledTexts) -> list[Budget]:
    """A series that fits the data: up to half of the smallest class, or shares of the rows if that is too small for a curve."""
    _, largest = _smallest_class(texts)
    fitting = [count for count in PER_CLASS if count <= largest / 2]
    if len(fitting) >= 3:
        return [Budget(per_class=count) for count in fitting]
    return [Budget(ratio=ratio) for ratio in RATIOS]


def make_steps(distiller: Distiller, texts: LabelledTexts, budgets: Sequence[Budget]) -> tuple[tuple[Step, ...], list[str]]:
    """Checks budgets and puts them in order.

    Args:
        distiller: All but its budget is used.
        texts: The source.
        budgets: In any order; of those that come to the same number of texts the first is kept.

    Returns:
        The steps, fewest texts first, and a note on each budget that was left out.

    Raises:
        InputError: If there is no budget, or one is more than a class allows; it names the most that is possible.
    """
    if not budgets:
        raise InputError("expected at least one budget, found none")
    name, largest = _smallest_class(texts)
    steps: dict[int, Step] = {}
    notes = []
    for budget in budgets:
        if budget.per_class is not None and budget.allocation == "equal" and budget.per_class > largest:
            raise InputError(
                f"expected at most {largest:,} texts a class, found {budget.per_class:,}: class {name!r} has only {largest:,} "
                "different texts; ask for fewer, or give ratios"
            )
        count = sum(with_budget(distiller, budget).allocate(texts).values())
        step = Step(budget, count, count / len(texts))
        if steps.setdefault(count, step).budget != budget:
            notes.append(f"{step.words} come to {count:,} texts, as {steps[count].words} do; they are measured once")
    return tuple(steps[count] for count in sorted(steps)), notes


def with_budget(distiller: Distiller, budget: Budget) -> Distiller:
    """The distiller with another budget."""
    return replace(distiller, per_class=budget.per_class, ratio=budget.ratio, total=budget.total, allocation=budget.allocation)


def _smallest_class(texts: LabelledTexts) -> tuple[str, int]:
    """Name and number of different texts of the class that has fewest."""
    distinct: dict[int, set[str]] = {label: set() for label in texts.class_counts}
    for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
        distinct[label].add(text)
    label = min(distinct, key=lambda label: len(distinct[label]))
    return texts.label_names[label], len(distinct[label])
