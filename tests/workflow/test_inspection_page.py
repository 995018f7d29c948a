"""The page of an inspection: one file that fetches nothing, says at once whether the data are fit, and shows the evidence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.workflow.test_report import Page

from hounsfield.core.errors import InputError
from hounsfield.workflow.inspect import inspect


def page_of(data: Path, out: Path, *, fast: bool = False) -> Page:
    inspect(data, html=out, fast=fast)
    return Page(out)


def test_it_fetches_and_runs_nothing(phantoms: Path, tmp_path: Path) -> None:
    page = page_of(phantoms, tmp_path / "page.html")
    assert page.html.startswith("<!DOCTYPE html>")
    assert not page.tags.keys() & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert all(source.startswith("data:image/") for source in page.all("src"))
    assert all(link.startswith("#") for link in page.all("href"))
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_the_verdict_comes_first_and_pictures_follow(phantoms: Path, tmp_path: Path) -> None:
    page = page_of(phantoms, tmp_path / "page.html")
    first = page.text.split("What was found")[0]
    assert "Fit to train on" in first
    assert "24 cases read in full" in first
    assert page.tags["img"] == 12
    assert "patients are unknown" in page.text.lower()
    assert "liver" in page.text


def test_findings_stand_worst_first_with_what_to_do_and_pictures(classed: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(classed, data)
    names = sorted(p.name for p in (data / "healthy").glob("*.png"))
    (data / "healthy" / names[0]).write_bytes(b"")
    Pillow.fromarray(np.zeros((96, 96), np.uint8)).save(data / "healthy" / names[1])
    page = page_of(data, tmp_path / "page.html")
    assert "Not fit to train on" in page.text
    order = [page.text.index(code) for code in ("EMPTY_FILE", "CONSTANT_IMAGE", "PATIENTS_UNKNOWN")]
    assert order == sorted(order)
    assert "What to do: copy or export the file again" in page.text
    assert f"healthy/{names[1].removesuffix('.png')}" in "".join(page.all("alt"))


def test_headers_alone_show_no_picture(classed: Path, tmp_path: Path) -> None:
    page = page_of(classed, tmp_path / "page.html", fast=True)
    assert page.tags["img"] == 0
    assert "the headers alone were read" in page.text


def test_names_are_escaped(classed: Path, tmp_path: Path) -> None:
    data = tmp_path / "a&b"
    shutil.copytree(classed / "healthy", data / "<b>bold")
    shutil.copytree(classed / "lesion", data / '"onload="x')
    page = page_of(data, tmp_path / "page.html")
    assert page.inside["h1"] == ["a&b"]
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_a_file_that_is_there_stays_unless_asked(classed: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("mine")
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        inspect(classed, html=out)
    assert out.read_text() == "mine"
    inspect(classed, html=out, overwrite=True)
    assert out.read_text().startswith("<!DOCTYPE html>")
