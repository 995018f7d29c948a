"""Generators in the training loop: killed and resumed they end with the same bits, adaptive changes included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tasks.test_generation import TINY, build, plan

from hounsfield.core.errors import RunInterruptedError
from hounsfield.core.plan import Plan, Training
from hounsfield.data.cache import Cache
from hounsfield.data.loader import Loader
from hounsfield.models import MODELS
from hounsfield.tasks import generation
from hounsfield.tasks.parts import jitter
from hounsfield.workflow.fit import Clock, Member, State, Tell, fit, read_log


def loader(folder: Path, how: Plan) -> Loader:
    """Twelve pictures of two classes, 16x16."""
    draw = np.random.default_rng(0)
    store = Cache(folder / "cache", 2**40)
    cases = {}
    for k in range(12):
        image = draw.uniform(-1, 1, (1, 16, 16)).astype(np.float32)
        cases[f"case {k:02}"] = store.get(f"{k}", "", lambda image=image, k=k: (image, np.array(k % 2)))  # type: ignore[misc]
    return Loader(cases, how, (1, 1))


def quiet(state: State, loss: float, value: float | None) -> None:
    pass


def interrupted(state: State, loss: float, value: float | None) -> None:
    if state.step == 4:
        raise KeyboardInterrupt


def learn(folder: Path, how: Plan, tell: Tell) -> bytes:
    member = Member(folder / "0-0")
    fit(build(how).train(), generation.Solver(how), loader(folder, how), how, member, Clock(), None, tell)
    return member.weights.read_bytes()


@pytest.mark.parametrize("model", TINY)
def test_resumed_they_end_with_the_same_bits(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter, "IMAGES", 100)  # so that changes are made soon
    monkeypatch.setattr(jitter, "TOLD_APART", -2.0)  # whatever the critic tells
    own = MODELS.load(model).training().changes  # type: ignore[attr-defined]
    how = plan(model, 2, training=Training.parse({**own, "steps": 8, "batch": 4}, "test"))
    straight = learn(tmp_path / "straight", how, quiet)
    with pytest.raises(RunInterruptedError, match="at step 4 of 8"):
        learn(tmp_path / "broken", how, interrupted)
    torch.manual_seed(99)
    assert learn(tmp_path / "broken", how, quiet) == straight
    lines = list(read_log(Member(tmp_path / "broken" / "0-0")))
    assert [line["step"] for line in lines] == list(range(1, 9))
    players = set() if model == "flow" else {"loss_discriminator", "loss_generator"}
    assert {key for key in lines[0] if key.startswith("loss_")} == players
    if model == "gan":
        found = Member(tmp_path / "broken" / "0-0").load()
        assert found is not None
        assert float(found[1]["model"]["changed"]) > 0
