"""One optimiser step of every player in turn: knows parts of a batch and processes, no task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hounsfield.core.plan import Plan, Player
from hounsfield.data.loader import Batch, Loader
from hounsfield.plan.budget import fused
from hounsfield.plan.tuning import groups, set_rate
from hounsfield.tasks import Solver
from hounsfield.workflow.processes.team import Team

# Between the seeds of two parts of a step, and of two turns of a part: more than any training has steps.
PARTS_APART, TURNS_APART = 15_485_863, 179_424_673


class Stepper:
    """A network with its players and their optimisers. What a part of a step draws at random depends on seed, step and part
    alone, so that it does not matter which process has it."""

    def __init__(self, model: nn.Module, solver: Solver, plan: Plan, team: Team) -> None:
        self.model, self.solver, self.plan, self.team = model, solver, plan, team
        self.players = solver.players(model)
        self.turns = team.turns(self.players)
        self.network = fused(model, plan)
        how = plan.training
        self.own = {name: how.players.get(name, Player()) for name in self.players}
        self.optimisers = {
            name: torch.optim.AdamW(
                groups(part, how), how.lr, betas=self.own[name].betas, weight_decay=how.weight_decay, fused=True
            )
            for name, part in self.players.items()
        }

    def set_rate(self, rate: float) -> None:
        for name, optimiser in self.optimisers.items():
            set_rate(optimiser, rate * self.own[name].rate)

    def step(self, batch: Batch, loader: Loader, step: int) -> dict[str, float]:
        """Returns the players' losses, means over all processes, NaN where a gradient is not finite. A player whose loss or
        gradient is not finite takes no step, nor do those after it."""
        self.model.train()
        most = self.plan.training.clip if self.plan.training.clip > 0 else math.inf
        losses: dict[str, float] = {}
        parts = [iter(self.solver.steps(self.network, part)) for part in batch.parts(loader.parts)]
        for turn in itertools.count():
            self._seed(step, loader.first, turn)
            asked = next(parts[0], None)
            if asked is None:
                return losses
            player, loss_fn = asked
            self.optimisers[player].zero_grad(set_to_none=True)
            with self.team.counted(self.model):
                found = self._backward(player, loss_fn, len(parts), last=len(parts) == 1)
                for k, part in enumerate(parts[1:], 1):
                    self._seed(step, loader.first + k, turn)
                    _, loss_fn = next(part)
                    found += self._backward(player, loss_fn, len(parts), last=k == len(parts) - 1)
            losses[player] = self.team.mean([found])[0]
            norm = _number(nn.utils.clip_grad_norm_(self.players[player].parameters(), most))
            if not math.isfinite(losses[player] + norm):
                return losses if not math.isfinite(losses[player]) else {**losses, player: math.nan}
            self.optimisers[player].step()
            self.optimisers[player].zero_grad(set_to_none=True)  # what is done between steps has their room
        return losses

    def _backward(self, player: str, loss_fn: Callable[[], Tensor], parts: int, last: bool) -> float:
        """The gradients of one of so many parts of a batch; returns its share of the loss."""
        device = next(self.model.parameters()).device.type

        def loss() -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=self.plan.training.amp):
                return loss_fn() / parts

        return float(self.turns[player](loss, last))

    def _seed(self, step: int, part: int, turn: int) -> None:
        """One part alone draws from one stream in all its turns."""
        if turn and self.plan.training.accumulate == 1:
            return
        torch.manual_seed(self.plan.seed * 1_000_003 + step + PARTS_APART * part + TURNS_APART * turn)


def _number(norm: Tensor) -> float:
    """The norm of gradients, also of those that lie on several processes."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
