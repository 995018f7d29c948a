"""The processes that train one network together, as the training loop sees them; here one process that is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn

from hounsfield.tasks import Row


class Turn(Protocol):
    """One player's part of a step."""

    def __call__(self, loss: Callable[[], Tensor], last: bool) -> Tensor:
        """Computes the loss of a part of the batch and adds its gradients; returns it, detached. Once the last part is done,
        gradients are means over all processes."""


class Team:
    """rank: of this process, from 0; size: how many there are; sharded: whether each keeps only its rows of weights, gradients
    and moments. What several do together (`several.Several`) is nothing where one is alone."""

    rank = 0
    size = 1
    sharded = False

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, decides and speaks."""
        return self.rank == 0

    def opened(self) -> None:
        """The run is there with its plan, says the process that leads; the others wait for that."""

    @contextmanager
    def first_here(self) -> Iterator[None]:
        """What the first process of each machine does before the others of it do."""
        yield

    def same(self, seen: Callable[[], Mapping[str, str]]) -> None:
        """Before training: every process has seen the same, by what it was. Raises InputError RANKS_DIFFER."""

    def turns(self, players: Mapping[str, nn.Module]) -> Mapping[str, Turn]:
        """How each player computes its gradients. Before optimisers are made: parameters may be others afterwards."""
        return dict.fromkeys(players, _alone)

    @contextmanager
    def counted(self, model: nn.Module) -> Iterator[None]:
        """Around forward passes: what they count in the model's buffers is as if one process had made those of all."""
        yield

    def mean(self, values: Sequence[float]) -> list[float]:
        """Of each value over the processes, all of which wait for it."""
        return list(values)

    def led(self, values: Sequence[float]) -> list[float]:
        """The values of the process that leads."""
        return list(values)

    def wait(self) -> None:
        """Until every process is here."""
        self.mean([0.0])

    def whole(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The tensors with the rows of all processes, put together one by one for the process that leads; the others get none,
        and have to ask for all of them too."""
        yield from tensors.items()

    def mine(self, items: Sequence[Any]) -> Sequence[Any]:
        """Those of the items that are this process's part of the work: none is another's, too."""
        return items[self.rank :: self.size]

    def gathered(self, rows: Sequence[Row]) -> list[Row]:
        """What the processes made of their items, in the order of the items."""
        return list(rows)


ALONE = Team()


def _alone(loss: Callable[[], Tensor], last: bool) -> Tensor:
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach()


def local(value: Tensor) -> Tensor:
    """This process's rows of a tensor that lies on several, without a copy; any other as it is."""
    return value.to_local() if hasattr(value, "to_local") else value
