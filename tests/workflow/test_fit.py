"""The training loop on problems of a few numbers: it learns, resumes to the bit, stops on time, and says what diverged."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield import tasks
from hounsfield.core.errors import DivergedError, InputError, RunInterruptedError
from hounsfield.core.plan import Augment, Class, Grid, Normalise, Plan, Training
from hounsfield.data.cache import Cache
from hounsfield.data.loader import Batch, Loader
from hounsfield.models import lenet
from hounsfield.tasks import classification
from hounsfield.workflow import fit as module
from hounsfield.workflow.fit import Clock, Member, State, fit, one_cycle, read_log

STILL = Augment(probability=0)


def plan(augment: Augment = STILL, seed: int = 0, **training: Any) -> Plan:
    return Plan(
        task="classification",
        model="lenet",
        ndim=2,
        classes=(Class(value=0, name="dark"), Class(value=1, name="bright")),
        channels=("x",),
        grid=Grid(size=(4, 4)),
        normalise=(Normalise(scope="case"),),
        patch=(4, 4),
        augment=augment,
        training=Training(**{"steps": 12, "batch": 4, "lr": 0.05, **training}),
        task_options=classification.Options(),
        model_options=lenet.Options(),
        seed=seed,
    )


class Net(nn.Module):
    """Small, with all that makes resuming hard: dropout, and batch statistics."""

    def __init__(self, dropout: float = 0.3, norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 8),
            nn.BatchNorm1d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(8, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Solver:
    """One player, plain cross-entropy."""

    out_channels = 2

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"model": model}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        yield "model", lambda: F.cross_entropy(model(batch.image), batch.target)


def loader(folder: Path, how: Plan) -> Loader:
    """Twenty noisy squares, the bright ones of class 1."""
    draw = np.random.default_rng(0)
    store = Cache(folder / "cache", 2**40)
    cases = {}
    for k in range(20):
        image = (draw.normal(size=(1, 4, 4)) + 1.5 * (k % 2)).astype(np.float32)
        cases[f"case {k:02}"] = store.get(f"{k}", "", lambda image=image, k=k: (image, np.array(k % 2)))  # type: ignore[misc]
    return Loader(cases, how, (1, 1))


def net(how: Plan, **options: Any) -> nn.Module:
    torch.manual_seed(how.seed)
    return Net(**options)


def quiet(state: State, loss: float, value: float | None) -> None:
    pass


def train(
    folder: Path, how: Plan, *, solver: Any = None, model: nn.Module | None = None, **options: Any
) -> tuple[nn.Module, State]:
    given: dict[str, Any] = {"clock": Clock(), "watch": lambda weights: 0.5, "tell": quiet, **options}
    model = model or net(how)
    cases = given.pop("loader", None) or loader(folder, how)
    state = fit(model, cast(tasks.Solver, solver or Solver()), cases, how, Member(folder / "0-0"), **given)
    return model, state


def weights(folder: Path) -> bytes:
    return Member(folder / "0-0").weights.read_bytes()


def test_a_small_problem_is_learnt(tmp_path: Path) -> None:
    losses: list[float] = []
    _, state = train(tmp_path, plan(steps=60), tell=lambda s, loss, v: losses.append(loss))
    assert (state.step, state.total) == (60, 60)
    assert state.progress == pytest.approx(1)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    average = Net()
    average.load_state_dict(load_file(Member(tmp_path / "0-0").weights))
    whole = loader(tmp_path, plan(batch=20)).raw(0)
    with torch.inference_mode():
        right = (average.eval()(whole.image).argmax(1) == whole.target).float().mean()
    assert right > 0.9


def test_it_trains_in_place_and_keeps_a_log(tmp_path: Path) -> None:
    how = plan(steps=5)
    model, _ = train(tmp_path, how)
    first = net(how).state_dict()
    assert any(not torch.equal(v, first[k]) for k, v in model.state_dict().items())
    lines = list(read_log(Member(tmp_path / "0-0")))
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["lr"] for line in lines] == pytest.approx([one_cycle(k / 5, how.training) for k in range(5)])
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert list(read_log(Member(tmp_path / "none"))) == []


@pytest.mark.parametrize("at", [1, 2, 5, 11])
def test_resumed_after_an_interrupt_it_ends_with_the_same_bits(tmp_path: Path, at: int) -> None:
    how = plan(Augment(mirror=(1,)))
    straight, _ = train(tmp_path / "straight", how)

    def interrupt(state: State, loss: float, value: float | None) -> None:
        if state.step == at:
            raise KeyboardInterrupt

    with pytest.raises(RunInterruptedError, match=rf"^INTERRUPTED .*Ctrl-C at step {at} of 12, .*--resume") as error:
        train(tmp_path / "broken", how, tell=interrupt)
    assert error.value.exit_code == 130
    assert not Member(tmp_path / "broken" / "0-0").weights.exists()
    torch.manual_seed(99)
    resumed, state = train(tmp_path / "broken", how, model=Net())
    assert state.step == 12
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")
    assert all(torch.equal(v, straight.state_dict()[k]) for k, v in resumed.state_dict().items())
    steps = [line["step"] for line in read_log(Member(tmp_path / "broken" / "0-0"))]
    assert steps == list(range(1, 13))


def test_ctrl_c_in_the_midst_of_a_step_waits_for_its_end(tmp_path: Path) -> None:
    """SIGINT while the loss is computed: the step is finished, saved, and nothing is lost."""
    how, before = plan(), signal.getsignal(signal.SIGINT)

    class Interrupted(Solver):
        count = 0

        def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
            self.count += 1
            if self.count == 4:
                signal.raise_signal(signal.SIGINT)
            yield from super().steps(model, batch)

    train(tmp_path / "straight", how)
    with pytest.raises(RunInterruptedError, match="at step 4 of 12"):
        train(tmp_path / "broken", how, solver=Interrupted())
    assert signal.getsignal(signal.SIGINT) is before
    train(tmp_path / "broken", how)
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")


def test_a_second_ctrl_c_does_not_wait_and_saves_no_half_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", -1.0)  # after every step
    monkeypatch.setattr(module, "SAVE_SHARE", math.inf)
    how = plan()

    class Impatient(Solver):
        count = 0

        def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
            def loss() -> Tensor:
                if self.count == 4:
                    with torch.no_grad():
                        next(model.parameters()).fill_(7)  # as if half of the weights were new
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGINT)
                return F.cross_entropy(model(batch.image), batch.target)

            self.count += 1
            yield "model", loss

    train(tmp_path / "straight", how)
    with pytest.raises(RunInterruptedError, match="at step 3 of 12"):
        train(tmp_path / "broken", how, solver=Impatient())
    train(tmp_path / "broken", how)
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")


def test_training_in_another_thread(tmp_path: Path) -> None:
    """Where signals cannot be caught."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            train(tmp_path, plan(steps=3))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert Member(tmp_path / "0-0").weights.exists()


class Poisoned(Solver):
    """Loss, or gradient alone, not finite from the fifth step on."""

    def __init__(self, gradient: bool) -> None:
        self.gradient, self.count = gradient, 0

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        def loss() -> Tensor:
            value = F.cross_entropy(model(batch.image), batch.target)
            if self.count < 5:
                return value
            weight = next(model.parameters()).flatten()[0]
            return value + (weight - weight.detach()).abs().sqrt() if self.gradient else value * math.nan

        self.count += 1
        yield "model", loss


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient: bool, clip: float
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(module, "SAVE_SHARE", math.inf)
    how = plan(clip=clip)
    member = Member(tmp_path / "0-0")
    ids = loader(tmp_path, how).raw(4).ids
    with pytest.raises(DivergedError) as error:
        train(tmp_path, how, solver=Poisoned(gradient))
    assert (error.value.code, error.value.exit_code) == ("NAN_LOSS", 4)
    assert error.value.found == f"loss nan at step 4 on {', '.join(ids)} (all in diverged.json)"
    assert "last good weights are in last/" in error.value.fix
    assert json.loads((member.folder / "diverged.json").read_text()) == {
        "schema": 1,
        "step": 4,
        "player": "model",
        "loss": "nan",
        "cases": list(ids),
    }
    assert not member.weights.exists()
    found = member.load()
    assert found is not None
    state, groups = found
    assert state.step == 4
    assert all(v.isfinite().all() for group in groups.values() for v in group.values())
    train(tmp_path, how)  # and they can be gone on with
    train(tmp_path / "straight", how)
    assert weights(tmp_path) == weights(tmp_path / "straight")


def test_without_a_checkpoint_none_is_promised(tmp_path: Path) -> None:
    solver = Poisoned(False)
    solver.count = 9
    with pytest.raises(DivergedError) as error:
        train(tmp_path, plan(), solver=solver)
    assert "last/" not in error.value.fix


def test_parts_of_a_batch_sum_to_the_whole(tmp_path: Path) -> None:
    """Two parts of four are a batch of eight, for a network without batch statistics."""
    plain = {"dropout": 0.0, "norm": False}
    outcomes = []
    for name, how in (("whole", plan(batch=8)), ("parts", plan(batch=4, accumulate=2))):
        model, _ = train(tmp_path / name, how, model=net(how, **plain))
        outcomes.append(model.state_dict())
    for key, value in outcomes[0].items():
        assert torch.allclose(value, outcomes[1][key], atol=1e-5), key


class Adversaries(Solver):
    """A generator that wants its critic's value high, and a critic that wants it low; each sees the other's newest weights."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float, float]] = []

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        assert isinstance(model, nn.ModuleDict)
        return dict(model.items())

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        assert isinstance(model, nn.ModuleDict)
        made, judged = cast(nn.Linear, model["generator"]), cast(nn.Linear, model["critic"])

        def value(sign: float, player: str) -> Tensor:
            self.seen.append((player, made.weight.flatten()[0].item(), judged.weight.flatten()[0].item()))
            judgement: Tensor = judged(made(batch.image.flatten(1)))
            return sign * judgement.mean()

        yield "critic", lambda: value(1.0, "critic")
        yield "generator", lambda: value(-1.0, "generator")


def test_two_players_each_move_their_own_weights_in_turn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"generator": nn.Linear(16, 3), "critic": nn.Linear(3, 1)})
    solver, how = Adversaries(), plan(steps=4, weight_decay=0.0, ema=0.9)
    train(tmp_path, how, solver=solver, model=model)
    assert [player for player, _, _ in solver.seen] == ["critic", "generator"] * 4
    for before, after in zip(solver.seen, solver.seen[1:], strict=False):
        moved = "critic" if before[0] == "critic" else "generator"
        assert (before[1] != after[1]) == (moved == "generator")
        assert (before[2] != after[2]) == (moved == "critic")
    found = Member(tmp_path / "0-0").load()
    assert found is not None
    assert {"optimiser.critic", "optimiser.generator", "model", "average"} == set(found[1])


def test_two_players_resume_too(tmp_path: Path) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({"generator": nn.Linear(16, 3), "critic": nn.Linear(3, 1)})

    def interrupt(state: State, loss: float, value: float | None) -> None:
        if state.step == 5:
            raise KeyboardInterrupt

    how = plan()
    train(tmp_path / "straight", how, solver=Adversaries(), model=model())
    with pytest.raises(RunInterruptedError):
        train(tmp_path / "broken", how, solver=Adversaries(), model=model(), tell=interrupt)
    train(tmp_path / "broken", how, solver=Adversaries(), model=model())
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    how = plan(steps=2)
    train(tmp_path, how)
    with pytest.raises(InputError, match=r"^BAD_WEIGHTS .*a checkpoint of another model"):
        train(tmp_path, how, model=nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    Member(tmp_path / "0-0").checkpoint.write_bytes(Member(tmp_path / "0-0").weights.read_bytes())
    with pytest.raises(InputError, match=r"^BAD_WEIGHTS .*a checkpoint of another model"):
        train(tmp_path, how)


def test_training_ends_in_time(tmp_path: Path) -> None:
    """A thousand steps planned, half a second allowed."""
    clock = Clock()
    clock.ends = clock.last + 0.5
    _, state = train(tmp_path, plan(steps=100_000), clock=clock)
    assert 1 <= state.step == state.total < 100_000
    assert state.seconds < 2
    assert Member(tmp_path / "0-0").weights.exists()


def test_validation_is_looked_at_a_few_times_and_never_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen: list[tuple[int, float | None]] = []

    def tell(state: State, loss: float, value: float | None) -> None:
        now[0] += 1.5
        seen.append((state.step, value))

    train(tmp_path, plan(steps=30), watch=lambda w: float(len(dict(w))), tell=tell)
    assert [step for step, value in seen if value is not None] == [5, 10, 15, 20, 25]
    assert {value for _, value in seen if value is not None} == {float(len(Net().state_dict()))}
