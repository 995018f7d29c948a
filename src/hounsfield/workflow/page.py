"""How a page is made from a template: one look, one set of filters, every name escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hounsfield.metrics.bootstrap import Interval
from hounsfield.workflow.console import first_few
from hounsfield.workflow.cover import capital


def render(template: str, content: Mapping[str, Any]) -> str:
    """The HTML of a template of this folder; a name that it uses and `content` lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "by": _by,
        "inline": Markup,
        "few": first_few,
        "bounds": _bounds,
        "count": _count,
        "capitalize_first": capital,
    }
    return pages.get_template(template).render(content)


def _by(values: Iterable[float], digits: int = 0) -> str:
    """ "96 × 96"."""
    return " × ".join(f"{v:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{v:.0f}" for v in values)


def _bounds(interval: Interval) -> str:
    return f"95% interval {interval.low:.3f} to {interval.high:.3f}" if interval.known else "no interval"


def _count(number: int, noun: str) -> str:
    """ "1 case", "2,000 cases"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
