"""Whether the players of a training still learn from each other, or one of them has won and teaches the others nothing."""

from __future__ import annotations

from collections.abc import Mapping

LOST = 300  # steps in a row that a loss may lie beyond its bounds


class Contest:
    """bounds: between which the losses of players stay while they learn, by name; others may be what they want."""

    def __init__(self, bounds: Mapping[str, tuple[float, float]]) -> None:
        self.bounds = bounds
        self.player = ""
        self.loss = 0.0
        self.steps = 0

    def judge(self, losses: Mapping[str, float]) -> None:
        """Count one more step. losses: of every player, by name."""
        beyond = [name for name, (low, high) in self.bounds.items() if name in losses and not low <= losses[name] <= high]
        if self.player not in beyond:
            self.player, self.steps = next(iter(beyond), ""), 0
        if self.player:
            self.loss = losses[self.player]
            self.steps += 1

    @property
    def sound(self) -> bool:
        """Whether the last step lay within all bounds, so that its weights are worth keeping."""
        return not self.player

    @property
    def decided(self) -> bool:
        """Whether one player has won."""
        return self.steps >= LOST
