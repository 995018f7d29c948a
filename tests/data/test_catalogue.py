"""The catalogue of published sets: complete, and as their publishers state it."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.catalogue import find, published

SETS = published()


def monai_table(name: str) -> dict[str, str]:
    """`name` of MONAI's DecathlonDataset, read from its source: importing it would cost seconds."""
    spec = importlib.util.find_spec("monai")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "apps" / "datasets.py").read_text()
    (kind,) = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "DecathlonDataset"]
    (value,) = [n.value for n in kind.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name]
    found: dict[str, str] = ast.literal_eval(value)
    return found


def test_all_sizes_of_all_sets_are_there() -> None:
    flat = ("path", "chest", "derma", "oct", "pneumonia", "retina", "breast", "blood", "tissue", "organa", "organc", "organs")
    solid = ("organ", "nodule", "adrenal", "fracture", "vessel", "synapse")
    names = {f"{name}mnist{size}" for name in flat for size in ("", "_64", "_128", "_224")}
    names |= {f"{name}mnist3d{size}" for name in solid for size in ("", "_64")}
    assert names == {name for name in SETS if "mnist" in name}
    assert len(SETS) == 70


def test_the_decathlon_is_as_monai_lists_it() -> None:
    tasks = {one.title: one for name, one in SETS.items() if name.startswith("msd_")}
    assert {title: one.url for title, one in tasks.items()} == monai_table("resource")
    assert {title: one.md5 for title, one in tasks.items()} == monai_table("md5")
    assert tasks["Task04_Hippocampus"].name == "msd_hippocampus"
    assert {one.folder for one in tasks.values()} == set(tasks)


@pytest.mark.parametrize("one", SETS.values(), ids=lambda one: one.name)
def test_every_entry_is_whole(one: Any) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", one.md5)
    assert urlsplit(one.url).scheme == "https"
    assert urlsplit(one.url).hostname in ("zenodo.org", "msd-for-monai.s3-us-west-2.amazonaws.com")
    assert urlsplit(one.url).path.endswith(f"/{one.file}")
    assert one.file == (f"{one.folder}.tar" if one.folder else f"{one.name}.npz")
    assert one.task == ("segmentation" if one.folder else "classification")
    assert one.cases > 0
    assert one.shows
    assert one.cite
    assert len(set(one.labels)) == len(one.labels)


def test_no_two_files_are_one() -> None:
    assert len({one.md5 for one in SETS.values()}) == len({one.url for one in SETS.values()}) == len(SETS)


def test_licences() -> None:
    assert {one.name for one in SETS.values() if one.licence == "CC BY-NC 4.0"} == {
        f"dermamnist{size}" for size in ("", "_64", "_128", "_224")
    }
    assert {one.licence for name, one in SETS.items() if name.startswith("msd_")} == {"CC BY-SA 4.0"}
    assert {one.licence for one in SETS.values()} == {"CC BY 4.0", "CC BY-NC 4.0", "CC BY-SA 4.0"}
    assert "by-nc/4.0" in SETS["dermamnist"].terms
    assert "no commercial use" in SETS["dermamnist"].terms


def test_medmnist_holds_as_many_images_as_it_says() -> None:
    """About 708 thousand in 2D and 10 thousand in 3D: https://medmnist.com."""
    small = [one for one in SETS.values() if re.fullmatch(r"[a-z]+mnist(3d)?", one.name)]
    assert round(sum(one.cases for one in small if not one.name.endswith("3d")), -3) == 708_000
    assert round(sum(one.cases for one in small if one.name.endswith("3d")), -3) == 10_000
    assert len({one.title.partition(" ")[0] for one in small}) == 18


def test_a_name_is_found_in_any_case() -> None:
    assert find("BreastMNIST_64") is SETS["breastmnist_64"]
    assert find("breastmnist_64").title == "BreastMNIST 64×64"
    assert find("organmnist3d").title == "OrganMNIST3D 28×28×28"
    assert find("breastmnist").url == "https://zenodo.org/records/10519652/files/breastmnist.npz?download=1"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("brestmnist", "breastmnist"), ("msd_hipocampus", "msd_hippocampus"), ("Hippocampus", "msd_hippocampus")],
)
def test_a_typo_gives_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"UNKNOWN_MEMBER dataset '{typed}'.*did you mean '{meant}'\?"):
        find(typed)
    with pytest.raises(InputError, match=r"UNKNOWN_MEMBER dataset 'zzz'.*fix: look at the list"):
        find("zzz")
