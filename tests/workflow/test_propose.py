"""What a plan says of several devices, and of devices that are not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console as Rich

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.plan.devices import Spread
from hounsfield.plan.memory import predict
from hounsfield.workflow.propose import Proposal, propose, show
from hounsfield.workflow.ready import Options


def text(proposal: Proposal) -> str:
    console = Rich(width=200)
    with console.capture() as caught:
        console.print(show(proposal))
    return caught.get()


def test_several_devices_share_a_step_and_the_memory_is_that_of_each(phantoms: Path) -> None:
    threads = torch.get_num_threads()
    found = propose(phantoms, Options(budget="3steps", device="cpu", devices=2, strategy="fsdp"))
    assert found.plan.training.accumulate % 2 == 0
    alone = predict(found.plan, "cpu")
    assert found.memory.weights == -(-alone.weights // 2)
    assert Spread(2).taken(alone) > found.memory.total
    document = found.to_json()
    assert (document["devices"], document["strategy"], document["device"]) == (2, "fsdp", "cpu")
    assert document["memory_bytes"] == sum(document["memory"].values())
    assert document["seconds_per_step"] > 0
    said = text(found)
    assert "predicted on each of 2 cpu devices with fsdp: weights" in said
    assert "measured on cpu for one of 2 shares" in said
    assert torch.get_num_threads() == threads


def test_devices_that_are_not_here_are_planned_for_and_nothing_is_timed(phantoms: Path) -> None:
    found = propose(phantoms, Options(budget="3steps", devices=4, nodes=2), device_memory="80GiB")
    assert found.plan.training.amp
    assert found.plan.training.accumulate % 8 == 0
    document = found.to_json()
    assert (document["devices"], document["strategy"], document["device"]) == (8, "ddp", "cuda")
    assert document["seconds_per_step"] is None
    assert document["seconds"]["train"] is None
    assert document["memory"]["gathered"] == document["memory"]["gradients"]
    assert "FLOP a step, not measured" in text(found)


def test_their_memory_decides_on_the_batch(phantoms: Path) -> None:
    batches = [
        propose(phantoms, Options(budget="3steps"), device_memory=words).plan.training.batch for words in ("80GiB", "1.1 GB")
    ]
    assert batches[0] > batches[1]


@pytest.mark.parametrize(
    ("words", "options", "line"),
    [
        ("80", {"budget": "3steps"}, "found '80', expected such as 80GiB"),
        ("0GiB", {"budget": "3steps"}, "found '0GiB'"),
        ("80GiB", {"budget": "3steps", "device": "cpu"}, "found --device cpu beside it"),
        ("80GiB", {}, "no time can be divided, expected a number of steps; fix: --budget 20000steps"),
        ("80GiB", {"budget": "10m"}, "fix: --budget 20000steps"),
    ],
)
def test_what_cannot_be_planned_is_refused(phantoms: Path, words: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"^BAD_OPTION --device-memory: .*{line}"):
        propose(phantoms, Options(**options), device_memory=words)


def test_one_device_shards_nothing(phantoms: Path) -> None:
    with pytest.raises(InputError, match="BAD_OPTION --strategy fsdp: found one device"):
        propose(phantoms, Options(budget="3steps", strategy="fsdp"), device_memory="80GiB")


def test_a_refusal_names_the_devices_that_would_do(phantoms: Path) -> None:
    options = Options(budget="3steps", size="large", changes={"training.batch": 2})
    with pytest.raises(ResourceError, match=r"^OUT_OF_MEMORY .*; or --devices \d+ --strategy fsdp takes 1\.\d\d GiB of each$"):
        propose(phantoms, options, device_memory="2GiB")
