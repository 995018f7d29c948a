"""Doctor tells the truth about this machine, and says what is missing and what it is for."""

from __future__ import annotations

import io
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import pytest
import torch
from rich.console import Console

from hounsfield.workflow import doctor as module
from hounsfield.workflow.doctor import Diagnosis, doctor, show


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return doctor()


def shown(found: Diagnosis) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(show(found))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_versions_are_the_installed_ones(found: Diagnosis) -> None:
    assert found.python == platform.python_version()
    assert {"torch", "numpy", "pydicom", "rich", "jinja2"} <= found.packages.keys()
    for name, number in found.packages.items():
        assert number == metadata.version(name)
    assert not {"pytest", "hypothesis", "ruff"} & found.packages.keys()


def test_memory_is_what_the_system_has(found: Diagnosis) -> None:
    if found.memory_total is None:
        pytest.skip("this system does not tell its memory")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**28 < found.memory_total <= physical
    assert found.memory_free is None or 0 < found.memory_free <= found.memory_total
    assert found.cores == os.cpu_count()
    assert found.threads == torch.get_num_threads()


def test_every_device_can_be_chosen(found: Diagnosis) -> None:
    from hounsfield.workflow.device import choose_device

    assert found.devices[0].name == "cpu"
    assert len(found.devices) >= 1 + torch.cuda.device_count()
    for device in found.devices:
        assert choose_device(device.name).type == device.name.split(":")[0]


def test_disks_of_cache_and_folder(found: Diagnosis) -> None:
    assert [d.use for d in found.disks] == ["cache", "this folder"]
    assert found.disks[1].path == str(Path.cwd())
    assert all(d.free > 0 for d in found.disks)


def test_a_healthy_machine_has_no_problem_but_scarcity(found: Diagnosis) -> None:
    assert [p for p in found.problems if "free" not in p and "GPU" not in p] == []


def test_json_is_plain(found: Diagnosis) -> None:
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["schema"] == 1
    assert values["packages"] == found.packages
    assert values["extras"][0] == {
        "name": "dicom",
        "use": "compressed DICOM: JPEG, JPEG-LS, JPEG 2000; DICOM results",
        "missing": [],
    }


def test_a_missing_extra_is_named_with_its_use_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "" if name == "pyjpegls" else real(name))
    found = doctor()
    assert {e.name: e.missing for e in found.extras} == {
        "dicom": ("pyjpegls",),
        "monai": (),
        "notebook": (),
        "peft": (),
        "scale": (),
        "timm": (),
    }
    text = shown(found)
    assert "missing pyjpegls (compressed DICOM: JPEG, JPEG-LS, JPEG 2000; DICOM results): pip install pyjpegls" in text
    assert not any("pyjpegls" in p for p in found.problems)


def test_a_broken_package_is_a_problem_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.MODULES, "blosc2", "no_such_module_here")
    found = doctor()
    assert len([p for p in found.problems if p.startswith("blosc2 cannot be imported (ModuleNotFoundError")]) == 1
    assert found.devices == ()
    assert "problem: blosc2" in shown(found)


def test_scarcity_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ENOUGH_DISK", 2**62)
    monkeypatch.setattr(module, "ENOUGH_MEMORY", 2**62)
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "not" / "yet" / "there"))
    found = doctor()
    assert found.disks[0].path == str(tmp_path / "not" / "yet" / "there")
    assert any("GiB free in" in p and "not/yet/there (cache)" in p for p in found.problems)
    assert not (tmp_path / "not").exists()


def test_a_gpu_that_torch_does_not_see_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert any("torch sees no GPU" in p for p in doctor().problems)


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("Linux alone has such limits")
    limits = {"memory.max": 3 * 2**30, "memory.current": 2**30}
    monkeypatch.setattr(module, "_number", lambda path: limits[path.name])
    assert module.memory() == (3 * 2**30, 2 * 2**30)
    monkeypatch.setattr(module, "_number", lambda path: None)
    total, _ = module.memory()
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_healthy_machine_is_told_so(found: Diagnosis) -> None:
    from dataclasses import replace

    assert "nothing is missing" in shown(replace(found, problems=()))
