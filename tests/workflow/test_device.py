"""Which device is chosen, and running out of memory in every framework's words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.workflow.device import choose_device, memory_guard


def have(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(0, False, "cpu"), (0, True, "mps"), (2, True, "cuda")])
def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, chosen: str) -> None:
    have(monkeypatch, cuda, mps)
    assert choose_device() == torch.device(chosen)


def test_named_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, cuda=2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:2", "mps", "tpu", "cuda:", "cuda:x", "cuda:-1", ""])
def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    have(monkeypatch, cuda=2)
    with pytest.raises(InputError, match=r"^BAD_OPTION --device: found .*, which is not here, expected one of cpu, cuda;"):
        choose_device(name)


def test_the_allocators_of_torch_and_numpy_on_this_machine() -> None:
    for allocate in (lambda: torch.empty(2**48), lambda: np.empty(2**58)):
        with (
            pytest.raises(ResourceError, match=r"^OUT_OF_MEMORY training: found .*lloc") as error,
            memory_guard("training", "a smaller batch"),
        ):
            allocate()
        assert error.value.fix == "a smaller batch"
        assert error.value.exit_code == 3
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 4 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_other_words_for_it(error: Exception) -> None:
    with (
        pytest.raises(ResourceError, match=r"^OUT_OF_MEMORY predict: found .+, expected memory for it; fix: less"),
        memory_guard("predict", "less"),
    ):
        raise error


def test_other_faults_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_guard("training", "less"):
        raise RuntimeError("shapes differ")
    with memory_guard("training", "less"):
        pass
