"""How many texts each class is given."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dallme.errors import InputError, UnknownNameError
from dallme.validation import check_positive

_SHARES: dict[str, Callable[[int], float]] = {"equal": lambda rows: 1.0, "proportional": float, "sqrt": math.sqrt}

#: Ways to divide a total among the classes.
ALLOCATIONS = tuple(_SHARES)


@dataclass(frozen=True)
class Budget:
    """How many texts are wanted: exactly one of `per_class`, `ratio` and `total`.

    Attributes:
        per_class: Texts per class (on average, if `allocation` is not ``equal``).
        ratio: Share of the rows of the source, in (0, 1]; the paper's distillation ratio (section 5.2).
        total: Texts in all.
        allocation: ``equal``: the same for each class; ``proportional``: by its rows; ``sqrt``: by the root of its rows.
    """

    per_class: int | None = None
    ratio: float | None = None
    total: int | None = None
    allocation: str = "equal"

    def __post_init__(self) -> None:
        """Checks that exactly one size is given and that it makes sense."""
        given = [name for name in ("per_class", "ratio", "total") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(f"expected exactly one of per_class, ratio and total, found {', '.join(given) or 'none'}")
        if self.per_class is not None:
            check_positive(self.per_class, "per_class")
        if self.total is not None:
            check_positive(self.total, "total")
        if self.ratio is not None and (isinstance(self.ratio, bool) or not 0 < self.ratio <= 1):
            raise InputError(f"expected ratio in (0, 1], found {self.ratio!r}")
        if self.allocation not in _SHARES:
            raise UnknownNameError("allocation", self.allocation, ALLOCATIONS)

    def allocate(
        self, class_counts: Mapping[int, int], class_names: Mapping[int, str] | None = None, *, rows: int | None = None
    ) -> dict[int, int]:
        """Divides the budget among the classes.

        Every class receives at least one text and at most as many as it has rows; what a small class cannot use goes
        to the others. Where shares are equal, the larger class comes first.

        Args:
            class_counts: Class id to number of rows (of different texts, where that is known).
            class_names: Class id to name, for messages.
            rows: Rows that a ratio is a share of; by default the sum of `class_counts`.

        Returns:
            Class id to number of texts, in the order of the ids.

        Raises:
            InputError: If more is asked than the classes hold, or less than one text a class.
        """
        classes = list(class_counts)
        most = sum(class_counts.values())
        if self.per_class is not None:
            wanted = self.per_class * len(classes)
            if self.allocation == "equal":
                for label, count in class_counts.items():
                    if count < self.per_class:
                        name = (class_names or {}).get(label, str(label))
                        raise InputError(
                            f"expected at least {self.per_class} rows in each class, class {name!r} has {count} different texts; "
                            "ask for fewer per class, or use --total or --ratio, which give small classes fewer"
                        )
        elif self.total is not None:
            wanted = self.total
        else:
            assert self.ratio is not None
            wanted = min(most, max(len(classes), round(self.ratio * (most if rows is None else rows))))
        if wanted < len(classes):
            raise InputError(f"expected at least one text a class, found {wanted} texts for {len(classes)} classes; ask for more")
        if wanted > most:
            raise InputError(
                f"expected at most as many texts as there are different ones ({most:,}), found {wanted:,}; ask for fewer"
            )
        return _divide(wanted, {label: _SHARES[self.allocation](class_counts[label]) for label in classes}, class_counts)


def _divide(total: int, shares: Mapping[int, float], limits: Mapping[int, int]) -> dict[int, int]:
    """Divides `total` by `shares`, at least 1 and at most `limits` each (Sainte-Laguë's method, seat by seat)."""
    given = dict.fromkeys(shares, 1)

    def need(label: int) -> tuple[float, int, int]:
        return (-shares[label] / (given[label] + 0.5), -limits[label], label)

    queue = [need(label) for label in shares if limits[label] > 1]
    heapq.heapify(queue)
    for _ in range(total - len(given)):
        label = queue[0][2]
        given[label] += 1
        if given[label] < limits[label]:
            heapq.heapreplace(queue, need(label))
        else:
            heapq.heappop(queue)
    return given
