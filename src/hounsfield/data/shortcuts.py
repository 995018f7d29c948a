"""Whether an attribute of cases or files tells a class, so that a model could learn the attribute in place of the disease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEWEST: Final = 8  # patients (or cases) with the class, and as many without it, below which nothing is said
RARE: Final = 5  # patients with a value, below which it is taken together with other rare ones
BINNED: Final = 12  # different numbers, from which on they are divided into four equal parts
DRAWS: Final = 9999  # of the permutation test
CHANCE: Final = 0.01  # its p, times the number of tests, up to which an association is listed
# Cramer's V and balanced accuracy from which an association is listed, and from which it nearly tells the class.
LISTED: Final = (0.25, 0.6)
TOLD: Final = (0.5, 0.75)


@dataclass(frozen=True)
class Shortcut:
    """One attribute and one class. v: Cramer's V with bias correction. accuracy: balanced, of telling the class by the
    attribute alone. p: of the permutation test, times the number of tests. units: patients, or cases where those are unknown.
    rule: the values with the most and the least of the class."""

    attribute: str
    label: str
    v: float
    accuracy: float
    p: float
    units: int
    rule: str

    @property
    def strong(self) -> bool:
        return self.v >= TOLD[0] and self.accuracy >= TOLD[1]

    def __str__(self) -> str:
        return (
            f"{self.attribute} tells {self.label}: {self.rule}; balanced accuracy {self.accuracy:.2f} by it alone, "
            f"Cramér's V {self.v:.2f}, p {'<' if self.p <= 0.001 else '='} {max(self.p, 0.001):.3f}"
        )


def shortcuts(
    labels: Mapping[str, Sequence[bool | None]], attributes: Mapping[str, Sequence[str]], groups: Sequence[str]
) -> list[Shortcut]:
    """The associations that chance does not explain, the strongest first.

    labels: by class, whether each case has it, None where nobody looked. attributes: by name, each case's value, "" where
    unknown. groups: each case's patient. Cases of one patient, value and label count once, so that a film of one patient proves
    nothing.
    """
    tables = [
        (name, label, *_table(values, has, groups))
        for name, values in ((name, _binned(values)) for name, values in attributes.items())
        if len(set(values)) > 1
        for label, has in labels.items()
    ]
    testable = [t for t in tables if len(t[2]) > 1 and t[3].sum(axis=0).min() >= FEWEST]
    found = []
    for name, label, values, counts in testable:
        v, accuracy = cramers_v(counts), balanced_accuracy(counts)
        if v >= LISTED[0] and accuracy >= LISTED[1]:
            p = min(1.0, permutation_p(counts) * len(testable))
            if p <= CHANCE:
                found.append(Shortcut(name, label, v, accuracy, p, int(counts.sum()), _rule(values, counts)))
    return sorted(found, key=lambda s: (-s.accuracy, -s.v, s.attribute, s.label))


def cramers_v(counts: Ints) -> float:
    """Of a table (values, 2), corrected for bias (Bergsma, J Korean Stat Soc 2013): 0 without association, 1 for one that
    tells all."""
    n = int(counts.sum())
    rows, columns = counts.shape
    spread = float(_chi_square(counts[:, 1], counts.sum(axis=1), int(counts[:, 1].sum()))[0]) / n
    spread = max(0.0, spread - (rows - 1) * (columns - 1) / (n - 1))
    sides = (side - (side - 1) ** 2 / (n - 1) - 1 for side in (rows, columns))
    least = min(sides)
    return min(1.0, (spread / least) ** 0.5) if least > 0 else 0.0


def balanced_accuracy(counts: Ints) -> float:
    """Mean share of both labels that the likelier label of each value gets right, every unit left out of its own rule;
    counts: (values, 2)."""
    total = counts.sum(axis=0)
    right = []
    for own, other in ((0, 1), (1, 0)):
        without = (counts[:, own] - 1) / max(1, total[own] - 1)
        right.append(float(counts[without > counts[:, other] / total[other], own].sum() / total[own]))
    return sum(right) / 2


def permutation_p(counts: Ints, seed: int = 0) -> float:
    """How often labels dealt out at random, to values as frequent as these, are associated as strongly; counts: (values, 2)."""
    rows, ones = counts.sum(axis=1), int(counts[:, 1].sum())
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(rows, ones, size=DRAWS, method="marginals")
    here = _chi_square(counts[:, 1], rows, ones)[0]
    return float(1 + (_chi_square(drawn, rows, ones) >= here * (1 - 1e-12)).sum()) / (1 + DRAWS)


def _chi_square(ones: Ints, rows: Ints, total: int) -> Floats:
    """ones: (draws, values) or (values,) units with the label among `rows` with the value; (draws,)."""
    share = total / rows.sum()
    expected = rows * share
    return np.asarray(((np.atleast_2d(ones) - expected) ** 2 / (expected * (1 - share))).sum(axis=1))


def _table(values: Sequence[str], has: Sequence[bool | None], groups: Sequence[str]) -> tuple[list[str], Ints]:
    """The values, rare ones taken together, and the units without and with the label, (values, 2)."""
    units = {unit for unit in zip(groups, values, has, strict=True) if unit[-1] is not None}
    totals = Counter(value for _, value, _ in units)
    names = {value: value if n >= RARE else "others" for value, n in totals.items()}
    found = sorted(set(names.values()))
    counts = np.zeros((len(found), 2), dtype=np.int64)
    for _, value, label in units:
        counts[found.index(names[value]), int(bool(label))] += 1
    return found, counts


def _binned(values: Sequence[str]) -> Sequence[str]:
    """Numbers of many values as quarters; the others as they are, "" as "unknown"."""
    known = [v for v in values if v]
    numbers = [n for v in known if (n := _number(v)) is not None]
    if len(numbers) < len(known) or len(set(numbers)) <= BINNED:
        return [v or "unknown" for v in values]
    edges = np.unique(np.quantile(numbers, (0, 0.25, 0.5, 0.75, 1)))
    names = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    inner = edges[1:-1]
    return [names[int(np.searchsorted(inner, float(v), side="right"))] if v else "unknown" for v in values]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _rule(values: Sequence[str], counts: Ints) -> str:
    """ "site A 40 of 41, site B 2 of 38"."""
    share = counts[:, 1] / counts.sum(axis=1)
    order = np.argsort(-share, kind="stable")
    shown = order if len(order) <= 4 else [*order[:2], *order[-2:]]
    return ", ".join(f"{values[k]} {counts[k, 1]:,} of {counts[k].sum():,}" for k in shown)
