"""What the user sees while work goes on: progress bars on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")

EVERY = 10.0  # seconds between plain progress lines


class Bar(Protocol):
    """A piece of work with a known number of steps."""

    def __call__(self, done: int, total: int, about: str = "") -> None: ...


class Console(Protocol):
    """Where workflows tell what they do."""

    def say(self, message: str) -> None:
        """One line."""

    def bar(self, label: str) -> AbstractContextManager[Bar]:
        """A piece of work, shown while the block runs."""


class Silent:
    """Says nothing: for use as a library."""

    def say(self, message: str) -> None:
        pass

    @contextmanager
    def bar(self, label: str) -> Iterator[Bar]:
        yield lambda done, total, about="": None


SILENT = Silent()


class Plain:
    """Lines on stderr, a progress line every ten seconds: for logs and pipes."""

    def say(self, message: str) -> None:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()

    @contextmanager
    def bar(self, label: str) -> Iterator[Bar]:
        shown = started = time.monotonic()

        def update(done: int, total: int, about: str = "") -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown > EVERY:
                shown = now
                left = (now - started) / max(done, 1) * (total - done)
                self.say(f"{label}: {done}/{total} {about} ({left:.0f} s left)".replace("  ", " "))

        yield update


class Rich:
    """Progress bars with time left, on stderr: for terminals."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole

        self.console = RichConsole(stderr=True, highlight=False)

    def say(self, message: str) -> None:
        self.console.print(message, markup=False)

    @contextmanager
    def bar(self, label: str) -> Iterator[Bar]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, TextColumn("{task.fields[about]}"), TimeRemainingColumn(), console=self.console, transient=True
        ) as bars:
            task = bars.add_task(label, total=None, about="")
            yield lambda done, total, about="": bars.update(task, completed=done, total=total, about=about)


def terminal() -> Console:
    """Rich on a terminal, plain lines elsewhere."""
    return Rich() if sys.stderr.isatty() else Plain()


def track(console: Console, label: str, items: Sequence[T]) -> Iterator[T]:
    """The items, with a bar."""
    with console.bar(label) as update:
        for done, item in enumerate(items):
            update(done, len(items))
            yield item
        update(len(items), len(items))


def facts_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Names, dim, beside what is said of them."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def first_few(names: Iterable[str], most: int = 5) -> str:
    """ "a, b, c and 4 more"."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
