"""Weights that torch saved become safetensors elsewhere; what else such a file brings never runs."""

from __future__ import annotations

import os
import pickle
import runpy
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.workflow import foreign
from hounsfield.workflow.foreign import PROGRAM, converted, is_foreign

WEIGHTS = OrderedDict({"stem.weight": torch.arange(6.0).reshape(2, 3), "stem.bias": torch.ones(2, dtype=torch.bfloat16)})


class Payload:
    """What a hostile file brings: it makes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("wrap", "part"),
    [
        (lambda w: w, ""),
        (lambda w: {"epoch": 3, "state_dict": w}, "state_dict"),
        (lambda w: {"a": {"b": {"model": w}}, "lr": 0.1}, "a.b.model"),
        (lambda w: {"optimiser": {"moment": torch.ones(1)}, "model": w}, "model"),
    ],
)
def test_tensors_are_found_wherever_they_are_kept(wrap: Any, part: str) -> None:
    tensors_of = runpy.run_path(str(PROGRAM), run_name="not the program")["tensors_of"]
    found, where = tensors_of(wrap(WEIGHTS))
    assert (list(found), where) == (list(WEIGHTS), part)


def test_what_torch_saved_becomes_safetensors_for_a_while(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": WEIGHTS}, tmp_path / "weights.pt")
    assert is_foreign(tmp_path / "weights.pt")
    with converted(tmp_path / "weights.pt") as file:
        found = load_file(file)
        assert not is_foreign(file)
        assert set(found) == set(WEIGHTS)
        assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())
    assert not file.exists()


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_payload_is_refused_and_does_not_run(how: str, tmp_path: Path) -> None:
    sign, path = tmp_path / "it ran", tmp_path / "weights.pth"
    content = {**WEIGHTS, "x": Payload(sign)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(Payload(sign), protocol=2))
    with pytest.raises(InputError) as caught, converted(path):
        pass
    assert caught.value.code == "UNSAFE_FILE"
    assert "nothing of it was run" in str(caught.value)
    assert "mkdir" in str(caught.value)
    assert not sign.exists()


def test_a_file_that_was_cut_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"BAD_WEIGHTS .*weights.pt: found \d+ bytes that do not parse"), converted(path):
        pass


def test_a_file_without_tensors_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"epoch": 3}, tmp_path / "weights.pt")
    monkeypatch.setattr(foreign, "_run", lambda path, target, allowed: {"tensors": 0, "part": ""})
    with pytest.raises(InputError, match=r"BAD_WEIGHTS .*found no tensors"), converted(tmp_path / "weights.pt"):
        pass


def test_a_few_bytes_that_claim_much_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "ROOM", 2**31)
    torch.save({"w": torch.zeros(1).expand(2**31)}, tmp_path / "weights.pt")
    assert (tmp_path / "weights.pt").stat().st_size < 10_000
    with pytest.raises(ResourceError, match=r"OUT_OF_MEMORY .*weights.pt"), converted(tmp_path / "weights.pt"):
        pass


def test_safetensors_are_not_foreign(tmp_path: Path) -> None:
    """Not even where the length of their header begins as a pickle does."""
    for extra in range(0, 200, 8):
        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {"note": "x" * extra})
        assert not is_foreign(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "open('elsewhere', 'w')",
        "import os; os.remove('there')",
        "import os; os.open('elsewhere', os.O_CREAT | os.O_WRONLY)",
    ],
)
def test_the_program_may_do_nothing_else(attempt: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    heavy = ("import torch\n", "from safetensors.torch import save_file\n", "from torch import Tensor\n")
    defined = PROGRAM.read_text().partition("if __name__")[0]
    for line in heavy:  # which the attempts do not need, and which take seconds
        assert line in defined
        defined = defined.replace(line, "")
    tried = f"try:\n    {attempt}\nexcept PermissionError:\n    print('refused')\n"
    code = f"{defined}\nforbid('target')\nopen('target', 'w').close()\n{tried}"
    words = [sys.executable, "-I", "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "refused", done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"there", "target"}


def test_the_environment_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(words: list[str], **options: Any) -> Any:
        seen.update(options)
        raise subprocess.TimeoutExpired(words, 1)

    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setattr(subprocess, "run", run)
    torch.save(WEIGHTS, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="BAD_WEIGHTS"), converted(tmp_path / "weights.pt"):
        pass
    assert set(seen["env"]) <= set(foreign.KEPT)
    assert seen["timeout"] == foreign.SECONDS
