"""How a step is shared by several devices, and what each of them holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plan.test_rules import facts, plan

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Plan
from hounsfield.plan.budget import CHOSEN
from hounsfield.plan.devices import Spread, divided, enough, shardable
from hounsfield.plan.memory import Memory, check, gib, predict

PLAN = plan(facts())
MEMORY = Memory(
    weights=160,
    gradients=80,
    optimiser=160,
    average=160,
    activations=50,
    looking=30,
    overhead=7,
    batches=5,
    cases=3,
    base=40,
    layer=20,
)


def steps_of(batch: int, accumulate: int, why: str = "") -> Plan:
    return PLAN.override({"training.batch": batch, "training.accumulate": accumulate}, why)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 8))
def test_every_device_gets_as_many_parts_of_one_size(batch: int, accumulate: int, count: int) -> None:
    how, made = steps_of(batch, accumulate).training, divided(steps_of(batch, accumulate), count).training
    assert made.accumulate % count == 0
    assert made.batch * made.accumulate >= how.batch * how.accumulate
    assert made.batch * made.accumulate < how.batch * how.accumulate + made.accumulate
    again = divided(divided(steps_of(batch, accumulate), count), count)
    assert again == divided(steps_of(batch, accumulate), count)


@pytest.mark.parametrize(
    ("before", "count", "after"), [((8, 1), 2, (4, 2)), ((8, 2), 2, (8, 2)), ((4, 3), 2, (2, 6)), ((8, 1), 1, (8, 1))]
)
def test_the_samples_of_a_step_stay_as_many(before: tuple[int, int], count: int, after: tuple[int, int]) -> None:
    made = divided(steps_of(*before), count)
    assert (made.training.batch, made.training.accumulate) == after
    said = made.reasons.get("training.accumulate", "")
    samples = before[0] * before[1]
    assert said == (f"2 devices share the {samples} samples of a step in {after[1]} parts" if before != after else "")


def test_a_batch_that_cannot_be_shared_grows_unless_the_user_chose_it() -> None:
    made = divided(steps_of(3, 1), 2)
    assert (made.training.batch, made.training.accumulate) == (2, 2)
    assert made.reasons["training.batch"].endswith("of a step in 2 parts, as 3 cannot be shared evenly")
    with pytest.raises(InputError, match=r"^BAD_OPTION --devices 2: found steps of 1 x 3 .*fix: --set training.batch=4$"):
        divided(steps_of(3, 1, CHOSEN), 2)


def test_what_each_process_takes() -> None:
    assert Spread().taken(MEMORY) == MEMORY.total == 160 + 80 + 160 + 160 + 50 + 30 + 7 + 5 + 3 + 40
    assert Spread(2).taken(MEMORY) == MEMORY.total + 80 - 2, "gradients once more, as they are sent, and its part of a batch"
    two, many = (Spread(count, sharded=True).each(MEMORY) for count in (2, 40))
    assert (two.weights, two.gradients, two.optimiser, two.average, two.batches) == (80, 40, 80, 80, 3)
    assert (many.weights, many.gradients, many.optimiser, many.average, many.batches) == (4, 2, 4, 4, 1)
    assert (two.overhead, two.cases, two.base) == (many.overhead, many.cases, many.base) == (7, 3, 40)
    # Three blocks of a sixteenth; or three times the largest layer, beside the first of the gradients.
    assert (two.gathered, many.gathered) == (3 * 160 / 16, 3 * 20 - 2)
    # A network that looks has 160, and two layers on their way into it, in the place of what only a step holds.
    assert two.looking == 160 + 2 * 20 - (40 + 50 + 30)
    assert many.looking == 160 + 2 * 20 - (2 + 50 + 58)


def test_what_one_device_does_not_hold_several_do() -> None:
    wide: Any = PLAN.override({"model_options.width": 64}, "")
    alone, shared = predict(wide, "cpu"), Spread(4, sharded=True)
    room = (alone.total + shared.taken(alone)) // 2
    with pytest.raises(ResourceError, match="OUT_OF_MEMORY"):
        check(wide, "cpu", room)
    check(wide, "cpu", room, shared.taken)


def test_the_fewest_devices_that_hold_a_plan_are_named() -> None:
    wide: Any = PLAN.override({"model_options.width": 64}, "")
    room = Spread(4, sharded=True).taken(predict(divided(wide, 4), "cuda"))
    assert enough(wide, "cuda", room) == f"--devices 4 --strategy fsdp takes {gib(room)} of each"
    assert enough(wide, "cuda", 2**20) == ""
    assert enough(wide, "cpu", 2**40) == "", "its processes share one memory"
    compiled = wide.override({"training.compile": True}, CHOSEN)
    assert enough(compiled, "cuda", room) == ""


def test_sharding_and_compiling_exclude_each_other() -> None:
    assert shardable(PLAN).reasons["training.compile"].startswith("--strategy fsdp")
    with pytest.raises(InputError, match=r"^BAD_OPTION --strategy fsdp: found training.compile.*training.compile=false"):
        shardable(PLAN.override({"training.compile": True}, CHOSEN))
