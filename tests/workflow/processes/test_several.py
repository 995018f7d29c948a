"""Two processes on one CPU learn what one does, with all of the weights each or with rows of them; and go on for each other."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.workflow.processes.two_ranks import PLANS, STEPS, STOPPED, adversaries, run
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import flow, unet
from hounsfield.plan.devices import UNIT
from hounsfield.workflow.fit import Member, read_log
from hounsfield.workflow.processes.several import Several, check_installed, units

ROOT = Path(__file__).parents[3]
KINDS = ("ddp", "fsdp")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Member]:
    """What one process makes of the plans."""
    folder = tmp_path_factory.mktemp("alone")
    found = {name: run(folder / name, how) for name, how in PLANS.items()}
    from tests.workflow.test_fit import Adversaries

    found["players"] = run(folder / "players", PLANS["four parts"], model=adversaries(), solver=Adversaries())
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make of them, in folders by kind and plan. Some go on where one process was stopped."""
    if find_spec("lightning_fabric") is None:
        pytest.skip("the extra scale is not installed")
    folder = tmp_path_factory.mktemp("two")
    for kind in KINDS:
        run(folder / kind / "went on", PLANS["two parts"], stop=STOPPED)
    store = import_module("torch.distributed").TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    about = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }
    command = [sys.executable, "-m", "tests.workflow.processes.two_ranks", str(folder)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **about, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return folder


def losses(member: Member) -> list[float]:
    lines = list(read_log(member))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def alike(one: Member, other: Member) -> None:
    """Loss curves to 1e-4, and every weight and running statistic."""
    assert losses(one) == pytest.approx(losses(other), abs=1e-4)
    first, second = load_file(one.weights), load_file(other.weights)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", PLANS)
def test_two_processes_learn_what_one_does(alone: dict[str, Member], two: Path, kind: str, parts: str) -> None:
    alike(Member(two / kind / parts / "0-0"), alone[parts])


def test_two_players_are_trained_by_two_processes(alone: dict[str, Member], two: Path) -> None:
    alike(Member(two / "ddp" / "players" / "0-0"), alone["players"])


def test_the_loss_curve_is_not_flat(alone: dict[str, Member]) -> None:
    """Or the comparison would say nothing."""
    curve = losses(alone["two parts"])
    assert max(curve) - min(curve) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_two_go_on_where_one_stopped(alone: dict[str, Member], two: Path, kind: str) -> None:
    alike(Member(two / kind / "went on" / "0-0"), alone["two parts"])


@pytest.mark.parametrize("kind", KINDS)
def test_one_goes_on_where_two_stopped(alone: dict[str, Member], two: Path, tmp_path: Path, kind: str) -> None:
    import shutil

    shutil.copytree(two / kind / "stopped" / "0-0", tmp_path / "0-0")
    stopped = Member(tmp_path / "0-0").load()
    assert stopped is not None
    assert stopped[0].step == STOPPED
    alike(run(tmp_path, PLANS["two parts"]), alone["two parts"])


def test_what_is_sharded_is_written_in_parts(two: Path) -> None:
    last = two / "fsdp" / "stopped" / "0-0" / "last"
    assert {p.name for p in last.iterdir()} == {"checkpoint.json", f"{STOPPED}-of-2"}
    parts = [load_file(last / f"{STOPPED}-of-2" / f"{rank}.safetensors") for rank in range(2)]
    name = "model/layers.1.weight"
    assert [part[name].shape for part in parts] == [(4, 16), (4, 16)]
    assert [part["optimiser.model/0.exp_avg"].shape for part in parts] == [(4, 16), (4, 16)]
    assert [p.name for p in (two / "ddp" / "stopped" / "0-0" / "last").iterdir()] == ["checkpoint.safetensors"]


def test_adversaries_are_not_sharded(two: Path) -> None:
    for rank in range(2):
        told = (two / f"refused {rank}.txt").read_text()
        assert told.startswith("BAD_OPTION --strategy fsdp: found generator and critic, trained in turn, expected one network")
        assert told.endswith("fix: --strategy ddp")


def test_what_processes_tell_each_other_is_exact(two: Path) -> None:
    told = [json.loads((two / f"told {rank}.json").read_text()) for rank in range(2)]
    assert [t["mean"] for t in told] == [[0.5, 10.5]] * 2
    assert [t["led"] for t in told] == [[5.0]] * 2
    assert [t["mine"] for t in told] == [[0, 2, 4], [1, 3]]
    for rows in (t["gathered"] for t in told):
        assert [row["id"] for row in rows] == list("01234")
        assert [row["dice"] for row in rows] == [1 / (1 + k) for k in range(5)]
        assert all(math.isnan(row["none"]) for row in rows)


def covered(module: nn.Module) -> list[nn.Module]:
    return units(nn.Sequential(module))


def test_a_network_is_gathered_in_small_parts_that_are_called() -> None:
    network = unet.build(unet.Options(width=16), 1, 3, 3)
    total = sum(p.numel() for p in network.parameters())
    found = covered(network)
    sizes = [sum(p.numel() for p in part.parameters()) for part in found]
    assert sum(sizes) > 0.9 * total
    layer = max(sum(p.numel() for p in m.parameters(recurse=False)) for m in network.modules())
    assert max(sizes) <= max(UNIT * total, layer), "one layer cannot be divided"
    assert len(found) > 8
    called: set[int] = set()
    for part in found:
        part.register_forward_pre_hook(lambda module, _: called.add(id(module)))
    network.train()(torch.zeros(2, 1, 32, 32, 32))
    assert called == {id(part) for part in found}
    nested = [a for a in found for b in found if a is not b and a in set(b.modules())]
    assert nested == [], "nothing is gathered twice"


def test_attention_that_uses_a_layer_without_calling_it_stays_whole() -> None:
    heads = nn.MultiheadAttention(8, 2)
    found = covered(nn.Sequential(heads, nn.Linear(8, 8), flow.build(flow.Options(width=8), 1, 0, 2)))
    assert heads in found
    assert heads.out_proj not in found


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(
        InputError, match=r"^MISSING_EXTRA --devices 2: found no package lightning-fabric, .*hounsfield\[scale\]"
    ):
        check_installed("--devices 2")


class Told:
    """A vigil whose rank 0 has seen `seen`."""

    training = False

    def __init__(self, seen: Mapping[str, str]) -> None:
        self.seen = seen

    def ask(self, key: str) -> str:
        return json.dumps(dict(self.seen))


@pytest.mark.parametrize(
    ("mine", "line"),
    [
        ({"torch": "2.13.0", "data": "24 cases (ab12)"}, "found torch 2.13.0, expected 2.14.1, as rank 0 has it;"),
        ({"torch": "2.14.1", "data": "23 cases (cd34)"}, "found data 23 cases (cd34), expected 24 cases (ab12), as rank 0"),
    ],
)
def test_ranks_that_see_different_data_or_versions(monkeypatch: pytest.MonkeyPatch, mine: dict[str, str], line: str) -> None:
    seen = {"torch": "2.14.1", "data": "24 cases (ab12)"}
    team: Any = Several.__new__(Several)
    team.rank, team.size, team.vigil = 3, 4, Told(seen)
    monkeypatch.setattr(Several, "wait", lambda self: None)
    with pytest.raises(InputError, match=rf"^RANKS_DIFFER rank 3: {re.escape(line)}"):
        team.same(lambda: mine)
    assert not team.vigil.training
    team.same(lambda: seen)
    assert team.vigil.training
