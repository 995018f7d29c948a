"""What every dataset reader must keep, one function for each promise of `hounsfield.data.readers.Reader`."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests import dicom_files

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import Reader
from hounsfield.io.formats import DEFAULT, Choices

CASES = 4


def check_an_empty_folder_is_not_taken_and_what_is_missed_is_said(member: Reader, folder: Path) -> None:
    (folder / "empty").mkdir()
    match = member.match(folder / "empty")
    assert match.found is None, f"an empty folder is taken for: {match.found}"
    assert match.missed.strip(), "it does not say what it missed"


def check_text_is_not_taken(member: Reader, folder: Path) -> None:
    (folder / "texts").mkdir()
    for name in ("README.md", "notes.txt", "LICENSE"):
        (folder / "texts" / name).write_text("nothing to see")
    match = member.match(folder / "texts")
    assert match.found is None, f"text files are taken for: {match.found}"


def check_damaged_descriptions_raise_typed_errors(member: Reader, folder: Path) -> None:
    """match may take such a folder, or not; read then says what is wrong."""
    contents = {
        "empty": b"",
        "binary": bytes(range(256)),
        "list": b"[1, 2]",
        "cut": b'{"labels": {"0": "back',
        "row": b"a,b\n1",
    }
    for kind, content in contents.items():
        for name in ("dataset.json", "manifest.csv", "manifest.jsonl", "data.npz"):
            broken = folder / f"{kind} {name}"
            broken.mkdir()
            (broken / name).write_bytes(content)
            try:
                if member.match(broken).found is None:
                    continue
                member.read(broken, DEFAULT)
            except InputError:
                continue
            raise AssertionError(f"{name} ({kind}) is read without complaint")


def check_its_layout_is_taken_and_read(member: Reader, folder: Path) -> None:
    data = example(member, folder)
    if data is None:
        return
    before = contents(data)
    match = member.match(data)
    assert match.found, f"its own layout is not taken: no {match.missed}"
    dataset = member.read(data, DEFAULT)
    assert dataset.reader == name_of(member), f"it signs as {dataset.reader!r}"
    assert dataset.found.strip(), "it does not say what it found"
    check_samples(dataset)
    assert [s.id for s in member.read(data, DEFAULT).samples] == [s.id for s in dataset.samples], "read twice, two results"
    assert contents(data) == before, "the user's folder was touched"


def check_every_file_is_read_by_the_users_choices(member: Reader, folder: Path) -> None:
    """What reads no file by choices has none to keep."""
    data = example(member, folder)
    if data is None:
        return
    given = Choices(affine="sform", allow_gaps=True)
    for sample in member.read(data, given).samples:
        lazies = [*sample.images, *(lazy for lazy in (sample.target, sample.valid_mask) if callable(lazy))]
        for lazy in lazies:
            own = getattr(lazy, "choices", given)
            assert own == own.over(given), f"{lazy} is read by {own}, without the user's choices"


def check_samples(dataset: Dataset) -> None:
    """The samples of a good dataset: ids, images, targets."""
    ids = [s.id for s in dataset.samples]
    assert len(ids) == CASES, f"{len(ids)} samples of {CASES}"
    assert ids == sorted(set(ids)), "ids that are not sorted and unique"
    assert not any(Path(i).is_absolute() or ".." in Path(i).parts or "\\" in i for i in ids), "ids that leave the output folder"
    keys = [image.key for s in dataset.samples for image in s.images]
    assert len(set(keys)) == len(keys), "two images of one key"
    for sample in dataset.samples:
        channels = sum(image().channels for image in sample.images)
        assert channels == len(dataset.channels), f"{channels} channels, {len(dataset.channels)} names"
        assert sample.split in ("train", "val", "test", None)
        check_target(dataset, sample)


def check_target(dataset: Dataset, sample: Sample) -> None:
    if dataset.kind == "classification":
        assert isinstance(sample.target, int), f"a target of {type(sample.target)}"
        assert 0 <= sample.target < len(dataset.classes), f"class {sample.target} of {len(dataset.classes)}"
    elif dataset.kind == "segmentation":
        assert callable(sample.target), "a mask that cannot be read"
        mask, image = sample.target(), sample.images[0]()
        assert mask.geometry.same_grid(image.geometry), "a mask on another grid"
        values = set(np.unique(mask.array).tolist())
        assert values <= {0, *(c.value for c in dataset.classes)}, f"values {values} beside the classes"
        assert values != {0}, "a mask without foreground"
    elif dataset.kind == "detection":
        assert isinstance(sample.target, Boxes), f"a target of {type(sample.target)}"
        shape = sample.images[0]().geometry.shape
        assert (sample.target.corners >= 0).all(), "a box beyond the image"
        assert (sample.target.corners <= (*shape, *shape)).all(), "a box beyond the image"
        assert set(sample.target.labels.tolist()) <= set(range(len(dataset.classes))), "a class that is not listed"
    else:
        assert sample.target is None, "a target without a kind"


CHECKS = (
    check_an_empty_folder_is_not_taken_and_what_is_missed_is_said,
    check_text_is_not_taken,
    check_damaged_descriptions_raise_typed_errors,
    check_its_layout_is_taken_and_read,
    check_every_file_is_read_by_the_users_choices,
)


def nnunet(folder: Path) -> None:
    write_dataset(folder, "segmentation", n=CASES)


def class_folders(folder: Path) -> None:
    write_dataset(folder, "classification", n=CASES)


def images(folder: Path) -> None:
    write_dataset(folder, "generation", n=CASES)


def image_masks(folder: Path) -> None:
    nnunet(folder)
    (folder / "dataset.json").unlink()
    (folder / "imagesTr").rename(folder / "images")
    (folder / "labelsTr").rename(folder / "masks")
    for path in (folder / "images").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))


def manifest(folder: Path) -> None:
    class_folders(folder)
    paths = sorted(folder.rglob("*.png"))
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "target"])
        rows.writerows([str(p.relative_to(folder)), p.parent.name] for p in paths)


def msd(folder: Path) -> None:
    write_dataset(folder, "segmentation", ndim=3, n=CASES)
    names = sorted(p.name for p in (folder / "labelsTr").iterdir())
    for path in (folder / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    values = {int(v) for n in names for v in np.unique(io.read(folder / "labelsTr" / n).array)}
    description = {
        "modality": {"0": "CT"},
        "labels": {str(v): f"organ {v}" if v else "background" for v in sorted({0, *values})},
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def medmnist(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    parts = {"train": 2, "val": 1, "test": 1}
    with zipfile.ZipFile(folder / "tiny.npz", "w") as archive:
        for part, n in parts.items():
            for name, array in (
                (f"{part}_images", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
                (f"{part}_labels", np.arange(n)[:, None] % 2),
            ):
                with archive.open(f"{name}.npy", "w") as file:
                    np.save(file, array, allow_pickle=False)


def boxed(folder: Path) -> list[tuple[str, list[int]]]:
    """Pictures in `folder`/images, and for each its name and a box: x, y, width, height."""
    write_dataset(folder, "generation", n=CASES)
    return [(p.name, [4, 6, 10, 12 + k]) for k, p in enumerate(sorted((folder / "images").iterdir()))]


def coco(folder: Path) -> None:
    found = boxed(folder)
    listed = {
        "images": [{"id": k, "file_name": name, "width": 96, "height": 96} for k, (name, _) in enumerate(found)],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": box} for k, (_, box) in enumerate(found)],
        "categories": [{"id": 1, "name": "lesion"}],
    }
    (folder / "annotations.json").write_text(json.dumps(listed))


def voc(folder: Path) -> None:
    for name, (x, y, width, height) in boxed(folder):
        corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
        item = f"<object><name>lesion</name><bndbox>{corners}</bndbox></object>"
        text = f"<annotation><filename>{name}</filename>{item}</annotation>"
        (folder / "images" / f"{Path(name).stem}.xml").write_text(text)


def dicom_studies(folder: Path) -> None:
    grid = dicom_files.upright((3, 12, 10))
    for k in range(CASES):
        array = np.random.default_rng(k).integers(0, 200, grid.shape).astype(np.int16)
        tags: dict[str, Any] = {"StudyInstanceUID": f"1.2.{k}", "PatientID": f"patient {k}"}
        dicom_files.series(folder / f"{k}" / "ct", array, grid, k + 1, **tags)
        outline = dicom_files.rectangle(grid, 1, (2, 5 + k), (3, 7))
        dicom_files.rtstruct(folder / f"{k}" / "rs.dcm", {"lesion": [outline]}, k + 1)


def yolo(folder: Path) -> None:
    found = boxed(folder)
    (folder / "labels").mkdir()
    for name, (x, y, width, height) in found:
        shares = [(x + width / 2) / 96, (y + height / 2) / 96, width / 96, height / 96]
        (folder / "labels" / f"{Path(name).stem}.txt").write_text(f"0 {' '.join(map(str, shares))}\n")
    (folder / "data.yaml").write_text("train: images\nnames: [lesion]\n")


def bids(folder: Path) -> None:
    write_dataset(folder / "derivatives", "segmentation", ndim=3, n=CASES)
    (folder / "derivatives" / "dataset.json").unlink()
    for k, image in enumerate(sorted((folder / "derivatives" / "imagesTr").iterdir())):
        name = f"sub-{k // 2:02d}_ses-{k % 2}"
        for top, kind, source in (
            (folder, "T1w", image),
            (folder / "derivatives" / "manual", "dseg", folder / "derivatives" / "labelsTr" / image.name.replace("_0000", "")),
        ):
            place = top / name.replace("_", "/") / "anat"
            place.mkdir(parents=True)
            source.rename(place / f"{name}_{kind}.nii.gz")
    (folder / "participants.tsv").write_text("participant_id\tAge\tgroup\nsub-00\t30\tcontrol\nsub-01\tn/a\tpatient\n")


def tables(folder: Path) -> None:
    names = [name for name, _ in boxed(folder)]
    rows = [f"{Path(name).stem},patient {k // 2},{k % 2}.0,{1 - k % 2}.0" for k, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["image,patient_id,lesion,healthy", *rows]))


# A reader without an example here has its layout tested in its own file alone.
EXAMPLES: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (nnunet, class_folders, images, image_masks, manifest, msd, medmnist, coco, voc, yolo, bids, dicom_studies, tables)
}


def name_of(member: Reader) -> str:
    return member.__name__.rpartition(".")[2] if hasattr(member, "__name__") else ""


def example(member: Reader, folder: Path) -> Path | None:
    if name_of(member) not in EXAMPLES:
        return None
    EXAMPLES[name_of(member)](folder / "example")
    return folder / "example"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
