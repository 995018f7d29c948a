"""All kinds of results pass a validator, and come back from an archive as they were."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.io.results.sources import AUTHOR, CLASSES, RNG, SOURCES, origin_of, predicted

from hounsfield import io
from hounsfield.core.image import Image
from hounsfield.io.results import maps, pictures, report, segmentation
from hounsfield.io.results.origin import write


def everything(folder: Path, source: Path) -> list[Path]:
    """One result of each kind that the source can have."""
    image, origin = io.read(source), origin_of(source)
    seg = segmentation.segmentation(origin, predicted(image), CLASSES, AUTHOR)
    made = {
        "seg": seg,
        "sr": report.report(origin, [report.Measured(c, 12.5, 3.5) for c in CLASSES], AUTHOR, seg),
        "scores": report.report(origin, [report.Scored(c, 0.5) for c in CLASSES], AUTHOR),
        "boxes": report.report(origin, _boxes(image), AUTHOR),
        "sc": pictures.secondary_capture(origin, np.zeros((20, 30, 3), np.uint8), AUTHOR),
    }
    if image.geometry.space == "patient":
        probabilities = Image(RNG.integers(0, 256, (2, *image.geometry.shape), dtype=np.uint8), image.geometry)
        made["pm"] = maps.probability_map(origin, probabilities, CLASSES, AUTHOR)
    return [write(result, folder / "out" / f"a.{kind}.dcm") for kind, result in made.items()]


def _boxes(image: Image) -> list[report.Found]:
    """One on a slice, and in a volume one on two."""
    places = [(0, 1)] if image.ndim == 2 or image.geometry.shape[0] == 1 else [(0, 1), (1, 3)]
    boxes = [report.Boxed(CLASSES[0], f"liver {k}", (slices, (1.5, 8.0), (2.0, 6.25)), 0.75) for k, slices in enumerate(places)]
    return [*(report.Counted(c, 0, 0.5) for c in CLASSES), *boxes]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
@pytest.mark.parametrize("kind", ["reversed", "enhanced, frames out of order", "enhanced, one frame", "one slice", "x-ray"])
def test_a_validator_finds_no_error(tmp_path: Path, kind: str) -> None:
    for path in everything(tmp_path, SOURCES[kind](tmp_path)):
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60, check=False)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not errors, f"{path.name}: {errors}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """The address of an Orthanc that holds nothing, on this machine alone, for as long as the test runs."""
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not installed (Debian: orthanc)")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    port = free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/system", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log.txt").read_text()[-2000:]
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_an_archive_keeps_what_is_written(tmp_path: Path, archive: str) -> None:
    source = SOURCES["reversed"](tmp_path)
    results = everything(tmp_path, source)
    for path in [*source.iterdir(), *results]:
        request = urllib.request.Request(f"{archive}/instances", data=path.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            stored = json.load(answer)
        assert stored["Status"] == "Success"
        with urllib.request.urlopen(f"{archive}/instances/{stored['ID']}/file", timeout=20) as answer:
            back = tmp_path / "back.dcm"
            back.write_bytes(answer.read())
        ours, theirs = pydicom.dcmread(path), pydicom.dcmread(back)
        assert theirs == ours
    with urllib.request.urlopen(f"{archive}/studies?expand", timeout=20) as answer:
        (study,) = json.load(answer)
    assert len(study["Series"]) == 1 + len(results), "results are in the source's study, each in a series of its own"
