"""The state of a training on disk, whole and in parts: any number of processes reads it, and a kill leaves one whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.workflow import checkpoint, run
from hounsfield.workflow.checkpoint import INDEX, WHOLE, fill, like, read, write
from hounsfield.workflow.processes.team import Team

GROUPS = {
    "model": {"weight": torch.arange(15.0).reshape(5, 3), "bias": torch.arange(1.0), "count": torch.tensor(7)},
    "optimiser.model": {"0.exp_avg": torch.ones(5, 3), "0.step": torch.tensor(2.0)},
}


class Rows(torch.Tensor):
    """Stands for a tensor that lies on several processes: `rank` of `size` has its rows, and copies into them alone."""

    place: tuple[int, int]

    def to_local(self) -> Tensor:
        rank, size = self.place
        each = -(-len(self) // size)
        return self.as_subclass(torch.Tensor)[rank * each : (rank + 1) * each]


def rows(value: Tensor, rank: int, size: int) -> Tensor:
    """A copy that lies on several processes; of single numbers each has its own."""
    if value.ndim == 0:
        return value.clone()
    made = value.clone().as_subclass(Rows)
    made.place = (rank, size)
    return made


class One(Team):
    """One of several processes whose others are played by the test: `meanwhile` is what they do before this one goes on."""

    sharded = True

    def __init__(self, rank: int, size: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.rank, self.size, self.meanwhile = rank, size, meanwhile

    def wait(self) -> None:
        self.meanwhile()


def write_sharded(folder: Path, step: int, size: int) -> None:
    """What `size` processes write together."""

    def of(rank: int) -> Any:
        return {g: {n: rows(v, rank, size) for n, v in values.items()} for g, values in GROUPS.items()}

    def others() -> None:
        for rank in range(1, size):
            write(folder, {"step": step}, of(rank), One(rank, size))

    write(folder, {"step": step}, of(0), One(0, size, others))


def same(found: Any, step: int) -> bool:
    state, groups = found
    whole = {g: {n: groups[g][n] for n in groups[g]} for g in groups}
    alike = all(torch.equal(whole[g][n], GROUPS[g][n]) for g in GROUPS for n in GROUPS[g])
    return bool(
        state["step"] == step and alike and {g: set(v) for g, v in whole.items()} == {g: set(v) for g, v in GROUPS.items()}
    )


def test_one_file(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write(tmp_path, {"step": 3}, GROUPS)
    assert [p.name for p in tmp_path.iterdir()] == [WHOLE]
    assert same(read(tmp_path), 3)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_parts_of_any_number_of_processes_are_the_whole(tmp_path: Path, size: int) -> None:
    """Seven processes for five rows: two have none."""
    write_sharded(tmp_path, 4, size)
    assert same(read(tmp_path), 4)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == size
    stored = [load_file(tmp_path / f"4-of-{size}" / f"{rank}.safetensors") for rank in range(size)]
    assert sum(part["model/weight"].shape[0] for part in stored) == 5, "no row twice"
    assert ["model/count" in part for part in stored] == [True] + [False] * (size - 1)
    assert json.loads((tmp_path / INDEX).read_text())["schema"] == 1


@pytest.mark.parametrize("size", [2, 3])
def test_each_process_takes_its_own_rows_whoever_wrote_them(tmp_path: Path, size: int) -> None:
    write_sharded(tmp_path, 4, 2)
    found = read(tmp_path)
    assert found is not None
    for rank in range(size):
        own = {name: rows(torch.zeros_like(v), rank, size) for name, v in GROUPS["model"].items()}
        fill(own, found[1]["model"], One(rank, size))
        each = -(-5 // size)
        mine = slice(rank * each, (rank + 1) * each)
        weight = own["weight"].as_subclass(torch.Tensor)
        assert torch.equal(weight[mine], GROUPS["model"]["weight"][mine])
        assert weight.sum() == GROUPS["model"]["weight"][mine].sum(), "and nothing else"
        assert own["count"] == 7


def test_other_names_and_shapes_are_refused() -> None:
    with pytest.raises(KeyError, match="bias"):
        fill({"weight": torch.zeros(5, 3)}, {"weight": torch.zeros(5, 3), "bias": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"\(5, 3\) for \(5, 4\)"):
        fill({"weight": torch.zeros(5, 4)}, {"weight": torch.zeros(5, 3)})


def test_moments_lie_as_their_parameter_does() -> None:
    parameter = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    stored = torch.rand(2, 3, 4, 4)
    found = like(parameter, stored)
    assert torch.equal(found, stored)
    assert found.stride() == parameter.stride(), "the fused optimiser walks both in the order of memory"
    assert like(parameter, torch.tensor(3.0)) == 3


def test_what_is_older_goes_and_the_newest_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"step": 1}, GROUPS)
    write_sharded(tmp_path, 2, 2)
    assert {p.name for p in tmp_path.iterdir()} == {INDEX, "2-of-2"}
    write_sharded(tmp_path, 3, 2)
    assert {p.name for p in tmp_path.iterdir()} == {INDEX, "3-of-2"}
    write(tmp_path, {"step": 4}, GROUPS)
    assert {p.name for p in tmp_path.iterdir()} == {WHOLE}


def test_killed_before_the_index_is_written_the_old_state_is_whole(tmp_path: Path) -> None:
    write_sharded(tmp_path, 2, 2)

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, {"step": 3}, GROUPS, One(0, 2, killed))
    assert same(read(tmp_path), 2)
    write_sharded(tmp_path, 4, 2)
    assert {p.name for p in tmp_path.iterdir()} == {INDEX, "4-of-2"}, "and what the kill left is removed"


def test_killed_before_the_old_one_is_removed_the_newer_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sharded(tmp_path, 2, 2)
    monkeypatch.setattr(checkpoint, "_forget", lambda *_: None)
    write(tmp_path, {"step": 3}, GROUPS)
    assert same(read(tmp_path), 3)
    write_sharded(tmp_path, 5, 3)
    assert same(read(tmp_path), 5)


def read_all(folder: Path) -> list[Tensor]:
    found = read(folder)
    assert found is not None
    return [value for group in found[1].values() for value in group.values()]


@pytest.mark.parametrize("damage", ["no part", "short part", "bad index", "wrong rows"])
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    write_sharded(tmp_path, 2, 2)
    part, index = tmp_path / "2-of-2" / "1.safetensors", tmp_path / INDEX
    if damage == "no part":
        part.unlink()
    elif damage == "short part":
        part.write_bytes(part.read_bytes()[:-4])
    elif damage == "bad index":
        index.write_text(index.read_text()[:40])
    else:
        index.write_text(index.read_text().replace("5,", "6,", 1))
    with pytest.raises(InputError, match=r"^BAD_WEIGHTS .*fix: copy it again, or retrain"):
        read_all(tmp_path)


def test_an_index_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    write_sharded(tmp_path / "one", 2, 2)
    write_sharded(tmp_path / "other", 9, 2)
    index = json.loads((tmp_path / "one" / INDEX).read_text())
    index["folder"] = "../other/9-of-2"
    (tmp_path / "one" / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="BAD_WEIGHTS"):
        read(tmp_path / "one")


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sharded(tmp_path, 2, 2)

    def full(tensors: Any, path: Path, about: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(run, "save_file", full)
    with pytest.raises(ResourceError, match="DISK_FULL"):
        write_sharded(tmp_path, 3, 2)
    with pytest.raises(ResourceError, match="DISK_FULL"):
        write(tmp_path, {"step": 3}, GROUPS)
    assert same(read(tmp_path), 2)
    assert [p for p in tmp_path.rglob("*.safetensors") if p.parent.name != "2-of-2"] == []
