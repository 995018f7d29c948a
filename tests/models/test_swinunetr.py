"""Swin UNETR is MONAI's own, built without memory where that is asked for, and refused by name where MONAI is not installed."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.models import swinunetr

SMALLEST = swinunetr.Options(width=12)


def test_it_is_monai_s_own_network() -> None:
    SwinUNETR = import_module("monai.networks.nets").SwinUNETR

    torch.manual_seed(0)
    ours = swinunetr.build(SMALLEST, 2, 3, 2).eval()
    torch.manual_seed(0)
    theirs = SwinUNETR(2, 3, feature_size=12, spatial_dims=2).eval()
    x = torch.randn(1, 2, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_nothing_is_allocated_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = swinunetr.build(swinunetr.Options(width=48), 1, 14, 3)
    assert all(p.is_meta for p in network.parameters())
    assert 60e6 < sum(p.numel() for p in network.parameters()) < 65e6  # 62.2 million in the paper


def test_windows_of_one_step_are_refused() -> None:
    network = swinunetr.build(SMALLEST, 1, 2, 2)
    with pytest.raises(InputError, match=r"BAD_PLAN --model swinunetr: found windows of \[32, 32\], .*--set patch=\[64,64\]"):
        network(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(("module", "name"), [("monai.networks.nets", "monai"), ("einops", "einops")])
def test_a_missing_package_is_named_with_its_extra(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"MISSING_EXTRA --model swinunetr: found no package {name}.*hounsfield\[monai\]"):
        swinunetr.build(SMALLEST, 1, 2, 3)


def test_importing_the_member_does_not_import_monai() -> None:
    import subprocess

    code = "import sys, hounsfield.models.swinunetr; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
