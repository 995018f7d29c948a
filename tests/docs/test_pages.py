"""Pages are true in small things: links lead somewhere, no registry and no machine is named, pictures are small and used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.test_docs import PAGES, ROOT, name, prose

HOSTS = re.compile(r"pypi\.org|pythonhosted|anaconda|docker\.io|docker\.com|ghcr\.io|quay\.io|huggingface\.co|npmjs|crates\.io")
MACHINE = re.compile(r"(?<![\w.:/~$}])/(?:home|root|tmp|work|mnt|data|opt|usr|var|Users|etc)\b|[A-Z]:\\")


def anchors(page: Path) -> set[str]:
    """GitHub's names of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h).lower()) for h in headings)
    return {h.strip().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{target} does not exist"
        assert other.is_relative_to(ROOT), f"{target} leaves the project"
        assert not anchor or anchor in anchors(other), f"{target}: no such heading"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CITATION.cff"], ids=name)
def test_no_registry_and_no_machine_is_named(page: Path) -> None:
    text = page.read_text()
    assert not HOSTS.findall(text)
    assert not MACHINE.findall(text)


def test_pictures_are_small_and_used() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    everything = "".join(p.read_text() for p in PAGES)
    for picture in pictures:
        assert picture.stat().st_size < 300_000
        assert f"pictures/{picture.name}" in everything


@pytest.mark.parametrize(
    ("text", "found"),
    [("see /home/me/x", True), ("cd /work", True), ("C:\\x", True), ("a/data/b", False), ("https://x.org/data", False)],
)
def test_a_machines_path_is_told(text: str, found: bool) -> None:
    assert bool(MACHINE.search(text)) is found
