"""Charts as inline SVG in the page's own colours: axes with round numbers, lines, bands and marks.

Drawn here rather than by a plotting library, whose import alone takes longer than everything else in a report, and whose text
does not follow the page's letters, light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

# Units of the drawing, a little narrower than a column of the page, so that letters come out at 12 px or more.
WIDE: Final = 320
TALL: Final = 200
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 18, 36  # margins for the numbers
TICKS: Final = 5  # gaps between numbers along an axis, at most


@dataclass(frozen=True)
class Axes:
    """x, y: (low, high) of the data, low below high. The drawing is WIDE x TALL with the y axis upwards. logarithmic: both
    axes, whose numbers are then above 0."""

    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool = False

    def across(self, values: Floats) -> Floats:
        return LEFT + self._share(values, *self.x) * (WIDE - LEFT - RIGHT)

    def up(self, values: Floats) -> Floats:
        """What lies outside is drawn on the border."""
        return TALL - BOTTOM - self._share(np.clip(values, *self.y), *self.y) * (TALL - TOP - BOTTOM)

    def line(
        self, x: Floats, y: Floats, ink: str = "accent", *, width: float = 1.6, opacity: float = 1, about: str = ""
    ) -> str:
        """ink: one of the page's colours, or "rgb(...)". about: shown where the pointer rests."""
        style = f'fill="none" stroke="{_colour(ink)}" stroke-width="{width:g}" stroke-opacity="{opacity:g}"'
        return f'<path d="{self._path(x, y)}" {style}>{_title(about)}</path>'

    def band(self, x: Floats, low: Floats, high: Floats, ink: str = "accent", *, opacity: float = 1, about: str = "") -> str:
        """The area between `low` and `high`."""
        there, back = self._path(x, high), self._path(x[::-1], low[::-1])
        return f'<path d="{there}L{back[1:]}z" fill="var(--{ink})" fill-opacity="{opacity:g}">{_title(about)}</path>'

    def dots(self, x: Floats, y: Floats, ink: str = "accent", *, about: str = "") -> str:
        at = zip(self.across(x), self.up(y), strict=True)
        return "".join(f'<circle cx="{h:.1f}" cy="{v:.1f}" r="2.6" fill="var(--{ink})">{_title(about)}</circle>' for h, v in at)

    def diamond(self, x: float, y: float, ink: str = "second", *, about: str = "") -> str:
        h, v = float(self.across(np.array(x))), float(self.up(np.array(y)))
        return f'<path d="M{h:.1f} {v - 5:.1f}l5 5l-5 5l-5-5z" fill="var(--{ink})">{_title(about)}</path>'

    def upright(self, x: float) -> str:
        """A thin line from bottom to top."""
        at = float(self.across(np.array(x)))
        return f'<path d="M{at:.1f} {TOP}V{TALL - BOTTOM}" stroke="var(--soft)" stroke-dasharray="2 3"/>'

    def numbers(self, low: float, high: float) -> list[tuple[float, str]]:
        """What stands along an axis from `low` to `high`, as `ticks`."""
        return log_ticks(low, high) if self.logarithmic else ticks(low, high)

    def _share(self, values: Floats, low: float, high: float) -> Floats:
        """How far along the axis, 0 to 1."""
        if self.logarithmic:
            return np.asarray(np.log(values / low) / math.log(high / low))
        return (values - low) / (high - low)

    def _path(self, x: Floats, y: Floats) -> str:
        return "M" + "L".join(f"{h:.1f} {v:.1f}" for h, v in zip(self.across(x), self.up(y), strict=True))


def chart(axes: Axes, marks: Iterable[str], below: str, beside: str = "") -> str:
    """An <svg> element. below, beside: the names of the x and y axes."""
    parts = [f'<text x="{LEFT}" y="{TOP - 4}">{escape(beside)}</text>'] if beside else []
    for value, text in axes.numbers(*axes.y):
        v = float(axes.up(np.array(value)))
        parts.append(f'<path d="M{LEFT} {v:.1f}H{WIDE - RIGHT}" stroke="var(--faint)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{v + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in axes.numbers(*axes.x):
        h = float(axes.across(np.array(value)))
        # A number at the very end would stand half outside.
        anchor = "end" if h > WIDE - 3 * RIGHT else "middle"
        parts.append(f'<text x="{min(h, WIDE):.1f}" y="{TALL - BOTTOM + 15}" text-anchor="{anchor}">{text}</text>')
    parts.append(f'<text x="{(LEFT + WIDE - RIGHT) / 2:g}" y="{TALL - 5}" text-anchor="middle">{escape(below)}</text>')
    return f'<svg viewBox="0 0 {WIDE} {TALL}" aria-hidden="true">{"".join(parts)}{"".join(marks)}</svg>'


def ticks(low: float, high: float, most: int = TICKS) -> list[tuple[float, str]]:
    """(value, text) of round numbers in [low, high], at most `most` gaps between them; low is below high."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(f for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    values = [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
    largest = max(map(abs, values), default=0.0)
    if largest and not 1e-3 <= largest < 1e6:
        return [(v, f"{v:.3g}" if v else "0") for v in values]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(v, f"{v:,.{digits}f}") for v in values]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """As `ticks`, for a logarithmic axis from above 0: 1, 2 and 5 times powers of ten, over a wide range 1 and 3 times or
    powers alone, over a narrow one the round numbers of `ticks`."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    values: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        if not values or len(values) > TICKS:
            values = [f * power for power in powers for f in factors if low <= f * power <= high]
    if len(values) < 3:
        return [(value, text) for value, text in ticks(low, high) if value > 0]
    return [(v, f"{v:,.{max(0, -math.floor(math.log10(v) + 1e-9))}f}") for v in values]


def _colour(ink: str) -> str:
    return ink if ink.startswith("rgb(") else f"var(--{ink})"


def _title(about: str) -> str:
    return f"<title>{escape(about)}</title>" if about else ""
