"""Faults planted in a sound set are found, all of them and nothing else; in the sound set nothing is."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from hounsfield.core.finding import Finding
from hounsfield.data.phantoms import grey, phantom
from hounsfield.workflow.inspect import inspect
from hounsfield.workflow.inspection import Inspection

Array = npt.NDArray[np.uint8]
CASES = 40
PARTS = ("train", "train", "train", "val", "test")


@dataclass
class Set:
    """A manifest's rows, and pictures of its cases by name."""

    root: Path
    pictures: dict[str, Array]
    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    def save(self) -> Path:
        for name, picture in self.pictures.items():
            path = self.root / self.rows[name]["image"]
            Pillow.fromarray(picture).save(path)  # JPEG at its usual quality of 75
        with (self.root / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, next(iter(self.rows.values())).keys())
            writer.writeheader()
            writer.writerows(self.rows.values())
        return self.root


@pytest.fixture(scope="module")
def patients() -> dict[str, Array]:
    """Slices of CASES phantoms, every second one with lesions."""
    return {f"p{k:02}": grey(phantom(1000 + k, lesion=k % 2 == 1).image).array[0] for k in range(CASES)}


@pytest.fixture
def sound(patients: dict[str, Array], tmp_path: Path) -> Set:
    """Both classes at both sites, a patient to each image, the parts given."""
    made = Set(tmp_path, dict(patients))
    for k, name in enumerate(patients):
        made.rows[name] = {
            "image": f"{name}.png",
            "target": ("healthy", "lesion")[k % 2],
            "patient": f"patient {k}",
            "site": ("north", "south")[k // 2 % 2],
            "split": PARTS[k // 2 % 5],
        }
    return made


def graver(found: Inspection) -> list[Finding]:
    return [f for f in found.findings if f.severity != "note"]


def test_in_the_sound_set_nothing_is_found(sound: Set) -> None:
    found = inspect(sound.save())
    assert found.findings == ()
    assert found.verdict[0] == "Fit to train on"


Change = Callable[[Array], Array]


def zoomed(a: Array) -> Array:
    """1% larger about the middle, on the same grid."""
    middle = (np.array(a.shape) - 1) / 2
    out: Array = ndimage.affine_transform(a.astype(float), np.eye(2) / 1.01, middle - middle / 1.01, order=1).astype(np.uint8)
    return out


CHANGES: dict[str, tuple[Change, str]] = {
    "brighter by 2%": (lambda a: (a * 1.02).clip(0, 255).astype(np.uint8), ".png"),
    "compressed": (lambda a: a, ".jpg"),
    "zoomed by 1%": (zoomed, ".png"),
    "resized by 1%": (lambda a: np.asarray(Pillow.fromarray(a).resize((97, 97))), ".png"),
    "mirrored": (lambda a: a[:, ::-1].copy(), ".png"),
    "enlarged": (lambda a: np.asarray(Pillow.fromarray(a).resize((192, 192))), ".png"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("into", ["train", "test"])
def test_a_near_copy_is_found(sound: Set, change: str, into: str) -> None:
    # p00 and p10 are of the training part, p08 of the test part; all are healthy.
    made, ending = CHANGES[change]
    other = {"train": "p10", "test": "p08"}[into]
    sound.pictures[other] = made(sound.pictures["p00"])
    sound.rows[other]["image"] = f"{other}{ending}"
    found = inspect(sound.save())
    code = {"train": "NEAR_WITHIN", "test": "NEAR_DUPLICATE"}[into]
    (finding,) = found.findings
    assert (finding.code, set(finding.cases)) == (code, {"p00", other})
    assert all(name in finding.details[0] for name in ("p00.png", f"{other}{ending}"))
    assert ("mirrored" in finding.details[0]) == (change == "mirrored")


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize(("other", "codes"), [("p08", ["DUPLICATE_IMAGE"]), ("p09", ["DUPLICATE_IMAGE", "LABEL_CONFLICT"])])
def test_an_exact_copy_is_found_whatever_its_format(sound: Set, ending: str, other: str, codes: list[str]) -> None:
    sound.pictures[other] = sound.pictures["p00"]
    sound.rows[other]["image"] = f"{other}{ending}"
    found = inspect(sound.save())
    assert [f.code for f in found.findings] == codes
    assert {f.cases for f in found.findings} == {(other, "p00")}
    assert found.dropped == ("p00",)


def test_an_exact_copy_within_a_part_is_found(sound: Set) -> None:
    sound.pictures["p10"] = sound.pictures["p00"]
    (finding,) = inspect(sound.save()).findings
    assert (finding.severity, finding.code, finding.cases) == ("note", "DUPLICATE_WITHIN", ("p00", "p10"))


def test_a_patient_in_two_parts_is_found(sound: Set) -> None:
    sound.rows["p08"]["patient"] = sound.rows["p00"]["patient"]
    (finding,) = inspect(sound.save()).findings
    assert (finding.severity, finding.code, set(finding.cases)) == ("error", "PATIENT_LEAK", {"p00", "p08"})


def test_every_unreadable_file_is_found(sound: Set) -> None:
    root = sound.save()
    for name in ("p00", "p05", "p39"):
        path = root / f"{name}.png"
        path.write_bytes(path.read_bytes()[:200])
    (root / "p11.png").write_bytes(b"")
    found = inspect(root)
    assert {f.code: set(f.cases) for f in found.findings} == {"TRUNCATED": {"p00", "p05", "p39"}, "EMPTY_FILE": {"p11"}}
    assert set(found.unread) == {"p00", "p05", "p11", "p39"}


def test_a_site_that_tells_the_class_is_found(sound: Set) -> None:
    for row in sound.rows.values():
        row["site"] = {"healthy": "north", "lesion": "south"}[row["target"]]
    sound.rows["p00"]["site"] = "south"  # almost
    (finding,) = inspect(sound.save()).findings
    assert (finding.severity, finding.code) == ("warning", "SHORTCUT")
    assert finding.found.startswith("site alone nearly tells ")
    assert finding.details[0].startswith("site tells lesion: south 20 of 21, north 0 of 19; balanced accuracy 0.97 by it alone")


def test_an_image_size_that_tells_the_class_is_found(sound: Set) -> None:
    for name, row in sound.rows.items():
        if row["target"] == "lesion":
            sound.pictures[name] = sound.pictures[name][:-2]
    (finding,) = inspect(sound.save()).findings
    assert (finding.code, finding.found) == ("SHORTCUT", f"image size alone nearly tells {finding.details[0].split()[3][:-1]}")
    (same,) = inspect(sound.root, fast=True).findings
    assert same == finding


def lettered(picture: Array, text: str, at: tuple[int, int], ink: int, ground: int | None = None) -> Array:
    large = Pillow.fromarray(picture).resize((288, 288))
    pen = ImageDraw.Draw(large)
    font: Any = ImageFont.load_default(14)
    if ground is not None:
        left, top, right, bottom = pen.textbbox(at, text, font)
        pen.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill=ground)
    pen.text(at, text, fill=ink, font=font)
    return np.asarray(large)


@pytest.mark.parametrize(
    ("text", "at", "ink", "ground"),
    [
        ("DOE JANE 1961", (6, 4), 255, None),
        ("ID 004711", (200, 268), 255, None),
        ("St. Elsewhere", (90, 6), 255, None),
        ("KV 120 mA 80", (6, 268), 0, 255),
    ],
)
def test_text_in_the_pixels_is_found(sound: Set, text: str, at: tuple[int, int], ink: int, ground: int | None) -> None:
    for name, picture in sound.pictures.items():
        sound.pictures[name] = np.asarray(Pillow.fromarray(picture).resize((288, 288)))
    assert inspect(sound.save()).findings == ()
    for name in ("p03", "p17"):
        sound.pictures[name] = lettered(sound.pictures[name], text, at, ink, ground)
    (finding,) = inspect(sound.save()).findings
    assert (finding.severity, finding.code, finding.cases) == ("warning", "BURNED_IN_TEXT", ("p03", "p17"))


def test_images_that_show_nothing_and_other_units_are_found(sound: Set) -> None:
    sound.pictures["p02"] = np.full((96, 96), 13, np.uint8)
    sound.pictures["p20"] = (sound.pictures["p20"].astype(np.uint16) * 257).astype(np.uint16)
    found = inspect(sound.save())
    assert {f.code: f.cases for f in found.findings} == {"CONSTANT_IMAGE": ("p02",), "MIXED_UNITS": ("p20",)}


def test_a_rare_class_is_found(sound: Set) -> None:
    for name in ("p01", "p11", "p21"):
        sound.rows[name]["target"] = "other"
    found = inspect(sound.save())
    assert [f.code for f in graver(found)] == ["RARE_CLASS"]
    assert graver(found)[0].details == ("other: 3 of 3 cases in train",)
