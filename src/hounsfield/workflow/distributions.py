"""A fingerprint's distributions for a terminal of 80 columns, drawn with block characters that need no colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity, Spread

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import ConsoleOptions, RenderableType
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

EIGHTHS: Final = "▏▎▍▌▋▊▉█"
LEVELS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = str.maketrans(EIGHTHS + LEVELS, "-------#" + "..--==##")
BAR: Final = 20  # characters of the longest bar
COLUMNS: Final = 16  # characters of a histogram
PIXELS: Final = {2: "pixels", 3: "voxels"}
MOST: Final = 12  # classes in a table; of more, the largest and the smallest
MOST_CHANNELS: Final = 6
AXES: Final = {2: ("height", "width"), 3: ("depth", "height", "width")}
BEYOND: Final = 0.1  # share of voxels outside what is drawn, of which 0.01 is expected
SAME: Final = 1e-3  # relative difference of spacings that are told apart


def bar(part: float, whole: float) -> str:
    """BAR characters where `part` is `whole`, fewer below, none for 0, and a sliver at least for more."""
    eighths = 0 if part <= 0 or whole <= 0 else max(1, round(8 * BAR * part / whole))
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def heights(counts: Sequence[float]) -> str:
    """A character for each of `counts`, none below 0: blank for 0, the lowest block at least for more, the full one for the
    largest. One that is more than twice the second (air, padding) is cut to that, so that the others keep their shape."""
    first, second = [*sorted(counts, reverse=True), 0.0, 0.0][:2]
    most = min(first, 2 * second) if second > 0 else first
    return "".join(LEVELS[math.ceil(8 * min(c / most, 1)) - 1] if c > 0 else " " for c in counts)


def number(value: float) -> str:
    """Four digits, thousands grouped where that is shorter than a power of ten."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def chosen(classes: Sequence[ClassFacts]) -> tuple[list[ClassFacts], list[ClassFacts]]:
    """The classes to show: all in their order; of more than MOST, the most frequent and, second, the rarest."""
    if len(classes) <= MOST:
        return list(classes), []
    ranked = sorted(classes, key=lambda c: -c.fraction)
    return ranked[: MOST - MOST // 3], ranked[-(MOST // 3) :]


class Drawn:
    """Block characters, as plain ones where the terminal's encoding has none."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        yield Text(self.text.translate(ASCII) if options.ascii_only else self.text, no_wrap=True)

    def __rich_measure__(self, console: RichConsole, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(len(self.text), len(self.text))


def distributions(m: Fingerprint) -> Iterator[RenderableType]:
    """The tables that have something to tell: sides and spacings that vary, intensities, label volumes, boxes."""
    if (table := _geometry(m)).row_count:
        yield table
    yield _intensities(m)
    for table in (_volumes(m), _boxes(m)):
        if table.row_count:
            yield table


def _table(title: str, *numbers: str, drawn: str = "") -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(Text(title), overflow="ellipsis", no_wrap=True, max_width=24)
    for heading in numbers:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column(Text(drawn), no_wrap=True)
    return table


def _spread(table: Table, name: str, spread: Spread, *first: str) -> None:
    from rich.text import Text

    drawn = heights(spread.histogram) if spread.max > spread.min else "all equal" if sum(spread.histogram) > 1 else ""
    table.add_row(Text(name), *first, *(number(v) for v in (spread.min, spread.median, spread.max)), Drawn(drawn))


def _geometry(m: Fingerprint) -> Table:
    """Sides and spacings that vary over the cases."""
    table = _table("images", "min", "median", "max", drawn="cases, min to max")
    for unit, spreads in ((PIXELS[m.ndim], m.shapes), ("mm", m.spacings if m.space != "none" else ())):
        for name, spread in zip(AXES[m.ndim], spreads, strict=False):
            if spread.max > spread.min * (1 + SAME):
                _spread(table, f"{name}, {unit}", spread)
    return table


def _intensities(m: Fingerprint) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    table = _table("values", "0.5%", "median", "99.5%", "mean", "std", drawn="0.5% to 99.5%")
    lines = []
    for k, (channel, whole) in enumerate(zip(m.channels[:MOST_CHANNELS], m.intensity, strict=False)):
        _intensity(table, channel, whole)
        if m.intensity_foreground and m.intensity_background:
            _intensity(table, "  in foreground", m.intensity_foreground[k])
            _intensity(table, "  outside", m.intensity_background[k])
        if whole.histogram and (beyond := 1 - sum(whole.histogram)) > BEYOND:
            lines.append(Text(f"{beyond:.0%} of {channel} lies beyond the range drawn: cases differ in scale"))
    if len(m.channels) > MOST_CHANNELS:
        lines.append(Text(f"and {len(m.channels) - MOST_CHANNELS} more channels"))
    return Group(table, *lines)


def _intensity(table: Table, name: str, i: Intensity) -> None:
    from rich.text import Text

    wide = len(i.histogram) // COLUMNS or 1
    drawn = heights([sum(i.histogram[k : k + wide]) for k in range(0, len(i.histogram), wide)])
    table.add_row(Text(name), *(number(v) for v in (i.low, i.median, i.high, i.mean, i.std)), Drawn(drawn or "constant"))


def _volumes(m: Fingerprint) -> Table:
    """How large the label of each class is where a case holds it."""
    known = any(c.volume for c in m.classes)
    unit = f"mm{'³' if m.ndim == 3 else '²'}" if known else PIXELS[m.ndim]
    table = _table(f"label size, {unit}", "min", "median", "max", drawn="cases, min to max")
    large, small = chosen([c for c in m.classes if c.voxels])
    for c in (*large, *small):
        if spread := c.volume if known else c.voxels:
            _spread(table, c.name, spread)
    return table


def _boxes(m: Fingerprint) -> Table:
    """How many boxes there are and how long their sides are."""
    table = _table(f"boxes, {PIXELS[m.ndim]}", "number", "min", "median", "max", drawn="boxes, min to max")
    if m.boxes is not None:
        _spread(table, "per case", m.boxes, "")
    large, small = chosen([c for c in m.classes if c.box_sides])
    for c in (*large, *small):
        for axis, (name, side) in enumerate(zip(AXES[m.ndim], c.box_sides, strict=True)):
            _spread(table, f"{c.name}, {name}", side, f"{c.boxes:,}" if axis == 0 else "")
    return table
