"""The report: one valid page that fetches nothing, says what the run measured and why it decided so, and survives lost data."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield.core.errors import InputError
from hounsfield.core.finding import Finding
from hounsfield.metrics.bootstrap import Interval
from hounsfield.workflow.ready import Options
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run, read_json, write_json
from hounsfield.workflow.train import train

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A page as a browser reads it: open tags must be closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.inside: dict[str, list[str]] = {}
        self.words: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == [], "tags without an end"
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> ends another tag"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        for tag in set(self.open):
            self.inside[tag][-1] += data

    def all(self, name: str, of: str | None = None) -> list[str]:
        return [value for tag, attribute, value in self.attributes if attribute == name and of in (None, tag)]


def copy_of(run: Run, folder: Path) -> Run:
    shutil.copytree(run.root, folder)
    return Run(folder)


def moved(run: Run, folder: Path) -> Run:
    """A copy of the run whose data are no longer where they were."""
    run = copy_of(run, folder)
    write_json(run.root / "run.json", {**run.record, "data": str(folder.parent / "secret" / "scans")})
    return run


@pytest.fixture(scope="module", params=["segmenter", "classifier"])
def run(request: pytest.FixtureRequest) -> Run:
    made: Run = request.getfixturevalue(request.param)
    return made


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(run.root / "report.html")


def test_it_is_one_page_that_fetches_and_runs_nothing(page: Page) -> None:
    assert page.html.startswith("<!DOCTYPE html>")
    assert not page.tags.keys() & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert all(source.startswith("data:image/") for source in page.all("src"))
    assert all(link.startswith("#") for name in ("href", "xlink:href", "action", "srcset") for link in page.all(name))
    outside = page.html.replace("".join(page.all("src")), "")
    assert not re.search(r"https?:|@import|url\((?!#)", outside)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert max(Counter(page.all("id")).values(), default=1) == 1
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_every_stored_figure_stands_in_it(run: Run, page: Page) -> None:
    cells = [cell.strip() for cell in page.inside["td"]]
    for part in ("test", "val"):
        stored = read_json(run.root / "evaluation" / f"{part}.json")
        for figure in stored["metrics"].values():
            assert Interval(**_known(figure)).text() in cells
            assert str(figure["n"]) in cells
            for note in filter(None, figure["note"].split("; ")):
                assert note in page.text
        value = stored["metrics"][stored["headline"]]["value"]
        assert f"{value:.3f}" in [card.strip() for card in page.inside["div"]]


def test_every_table_of_figures_says_what_the_part_was_used_for(page: Page) -> None:
    for name, use in (("test", "used for reporting alone"), ("validation", "used for selection")):
        after = page.text.split(f"Figures on the {name} part")[1]
        assert use in after[:200].lower()


def test_every_reason_of_the_plan_stands_in_it(run: Run, page: Page) -> None:
    assert run.plan.reasons
    for reason in run.plan.reasons.values():
        assert re.sub(r"\s+", " ", reason) in page.text
    for key in ("seed", "patch", "lr", "overlap", "width"):
        assert key in page.text


def test_pictures_show_the_cases_that_their_titles_name(run: Run, page: Page) -> None:
    cases = read_json(run.root / "evaluation" / "test.json")["cases"]
    worth = {c["id"]: c["dice"] if "dice" in c else c[f"p_{c['truth']}"] for c in cases}
    order = sorted(worth, key=lambda name: (worth[name], name))
    captions = [text for text in page.inside["figcaption"] if not text.startswith("The median case")]
    shown = re.findall(r"(Worst|Second worst|Median|Best) (\S+)", " ".join(captions).replace("\n", " "))
    expected = {"Worst": order[0], "Second worst": order[1], "Median": order[len(order) // 2], "Best": order[-1]}
    names = dict(shown)
    for title, name in expected.items():
        # Caption and description run together where the line breaks.
        assert names[title].startswith(name)
    # Each once, two explained, and the median on the first page too.
    assert page.tags["img"] == len(set(expected.values())) + 2 + 1


def test_pictures_are_what_they_claim(page: Page) -> None:
    for source, width, height in zip(*(page.all(name, "img") for name in ("src", "width", "height")), strict=True):
        with Pillow.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) as picture:
            assert picture.size == (int(width), int(height))
            assert int(np.ptp(np.asarray(picture))) > 50
    assert all(page.all("alt", "img"))


def test_confusions_are_those_of_the_cases(classifier: Run) -> None:
    page = Page(classifier.root / "report.html")
    cases = read_json(classifier.root / "evaluation" / "test.json")["cases"]
    counts = Counter((c["truth"], c["prediction"]) for c in cases)
    names = [c.name for c in classifier.plan.classes]
    numbers = [counts[truth, said] for truth in names for said in names]
    matrix = page.html.split('<table class="matrix')[1].split("</table>")[0]
    assert [int(n) for n in re.findall(r">(\d+)</td>", matrix)] == numbers
    assert f"take {names[1]} as the finding" in page.text


def test_classes_have_their_figures_and_their_spread(segmenter: Run) -> None:
    page = Page(segmenter.root / "report.html")
    metrics = read_json(segmenter.root / "evaluation" / "test.json")["metrics"]
    assert len(re.findall('class="strip"', page.html)) == 2 * len(segmenter.plan.classes)
    assert "<summary>All" not in page.html
    for c in segmenter.plan.classes:
        row = page.html.split(f"</span>{c.name}</th>")[1].split("</tr>")[0]
        assert Interval(**_known(metrics[f"dice_{c.name}"])).text() in row
        assert Interval(**_known(metrics[f"iou_{c.name}"])).text() in row


def test_counts_of_the_data_stand_in_it(run: Run, page: Page) -> None:
    split = run.split
    assert f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test" in page.text
    for part, name in (("train", "training"), ("val", "validation"), ("test", "test")):
        row = page.html.split(f"<tr><th>{name} (drawn)</th>")[1].split("</tr>")[0]
        assert int(re.findall(r">(\d+)</td>", row)[0]) == len(getattr(split, part))
    classes = page.html.split("<h3>Classes</h3>")[1]
    for c in run.plan.classes:
        row = classes.split(f"</span>{c.name}</th>")[1].split("</tr>")[0]
        counts = [int(n) for n in re.findall(r">(\d+)</td>", row)]
        assert counts == [run.record["classes"][part][c.name] for part in ("train", "val", "test")]


def test_the_command_repeats_the_training(run: Run, page: Page) -> None:
    words = shlex.split(page.inside["pre"][0])
    assert words[:2] == ["hounsfield", "train"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {"--out": "NEW", "--plan": f"{run.root.name}/plan.json", "--seed": "0", "--test": "0.2"}


def test_it_names_no_folder_above_the_data(run: Run, page: Page) -> None:
    assert Path(run.record["data"]).name in page.text
    assert str(run.root.parent) not in page.html
    assert str(Path(run.record["data"]).parent) not in page.html


def test_names_are_escaped(classed: Path, tmp_path: Path) -> None:
    data = tmp_path / "a&b"
    shutil.copytree(classed / "healthy", data / "<b>bold")
    shutil.copytree(classed / "lesion", data / '"onload="x')
    made = train(data, tmp_path / "<em>run", Options(budget="2steps", device="cpu"))
    page = Page(made.root / "report.html")
    assert page.inside["h1"] == ['a&b: "onload="x, <b>bold']
    assert "<em>" in page.inside["title"][0]
    assert page.tags["em"] == 0
    assert "<b>bold/" in page.text
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_without_its_data_it_says_why_there_are_no_pictures(run: Run, page: Page, tmp_path: Path) -> None:
    alone = moved(run, tmp_path / "run")
    there = Page(report(alone, device="cpu"))
    assert there.tags["img"] == 0
    assert "No pictures: the path does not exist (NOT_FOUND; the data were scans)" in there.text
    assert "secret" not in there.html
    figures = [cell for cell in page.inside["td"] if "[" in cell]
    assert [cell for cell in there.inside["td"] if "[" in cell] == figures


def test_a_case_that_is_gone_is_a_reason_too(classed: Path, classifier: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(classed, data)
    run = copy_of(classifier, tmp_path / "run")
    write_json(run.root / "run.json", {**run.record, "data": str(data)})
    for name in run.split.test:
        (data / f"{name}.png").unlink()
    page = Page(report(run, device="cpu"))
    assert page.tags["img"] == 0
    assert "NOT_FOUND" in page.text


def test_what_the_audit_found_stands_in_it(segmenter: Run, tmp_path: Path) -> None:
    run = moved(segmenter, tmp_path / "run")
    dropped = ["patient-0001", "patient-0003"]
    found = [
        Finding(
            severity="warning",
            code="DUPLICATE_IMAGE",
            found="dropped 2 exact copies",
            fix="mend it",
            details=("a = b", "c = d"),
        ),
        Finding(severity="note", code="EMPTY_MASK", found="3 of 9 val masks are empty", fix="nothing"),
    ]
    write_json(
        run.root / "run.json", {**run.record, "findings": [f.model_dump(mode="json") for f in found], "dropped": dropped}
    )
    page = Page(report(run, device="cpu"))
    for words in (
        "Dropped 2 exact copies. DUPLICATE_IMAGE",
        "a = b",
        "What to do: mend it.",
        "3 of 9",
        *dropped,
        "2 exact copies left out",
    ):
        assert words in page.text
    assert "nothing is to be told" not in page.text


def test_the_first_words_say_what_was_trained_and_how_well(run: Run, page: Page) -> None:
    stored = read_json(run.root / "evaluation" / "test.json")
    figure = stored["metrics"][stored["headline"]]
    first = page.text.split("Figures on the")[0]
    assert f"was trained on {len(run.split.train)} 2D cases" in first
    assert "12 steps" in first
    assert f"On the {figure['n']} test cases, which took no part in training" in first
    assert f"{figure['value']:.3f}" in first
    assert "used for selection" in first.lower()


def test_links_lead_somewhere(page: Page) -> None:
    assert page.all("href", "a")
    assert {link.removeprefix("#") for link in page.all("href", "a")} <= set(page.all("id"))


def test_a_wrong_device_is_an_error(segmenter: Run) -> None:
    before = (segmenter.root / "report.html").read_bytes()
    with pytest.raises(InputError) as caught:
        report(segmenter, device="quantum")
    assert caught.value.code == "BAD_OPTION"
    assert (segmenter.root / "report.html").read_bytes() == before


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        report(tmp_path)
    assert caught.value.code == "NOT_A_RUN"
    assert list(tmp_path.iterdir()) == []


def test_json_of_the_run_is_left_alone(segmenter: Run, tmp_path: Path) -> None:
    run = moved(segmenter, tmp_path / "run")
    before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file() and p.name != "report.html"}
    report(run.root, device="cpu")
    after = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file() and p.name != "report.html"}
    assert after == before
    assert json.loads((run.root / "plan.json").read_text())["task"] == "segmentation"


def _known(figure: dict[str, Any]) -> dict[str, Any]:
    return {key: float("nan") if value is None else value for key, value in figure.items()}
