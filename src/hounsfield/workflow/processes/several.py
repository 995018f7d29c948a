"""Several processes that train one network, by Lightning Fabric: with all of its weights each (DDP) or rows of them (FSDP2).

Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", SC 2020; Zhao et al., "PyTorch FSDP:
experiences on scaling fully sharded data parallel", VLDB 2023.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.plan.devices import UNIT
from hounsfield.tasks import Row
from hounsfield.workflow.processes.place import Place, options_of, own_device
from hounsfield.workflow.processes.team import ALONE, Team, Turn
from hounsfield.workflow.processes.vigil import Vigil, meet
from hounsfield.workflow.ready import Options

PACKAGE = "lightning_fabric"
# Longer than any process waits for another that lives: those that do not are found otherwise (`vigil`).
NEVER = timedelta(days=7)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RUNNING, BATCHES = ("running_mean", "running_var"), "num_batches_tracked"


def check_installed(where: str) -> None:
    """Raises InputError MISSING_EXTRA."""
    if find_spec(PACKAGE) is None:
        raise InputError(
            "MISSING_EXTRA",
            where,
            found="no package lightning-fabric",
            expected="the extra scale",
            fix="pip install 'hounsfield[scale]'",
        )


@contextmanager
def together(place: Place | None, options: Options) -> Iterator[tuple[Team, Options, torch.device]]:
    """The processes that train, the options with what was started, and this process's own device. Where one of several
    fails inside, all end."""
    if place is None:
        yield ALONE, options, own_device(options.device, None)
        return
    vigil = Vigil(place)
    with vigil.guarded():
        options = options_of(options, place)
        device = own_device(options.device, place)
        check_installed(f"--devices {place.here}")
        team = Several(place, options.strategy == "fsdp", device, vigil)
        yield team, options, device
        torch.distributed.destroy_process_group()


class Several(Team):
    """See Team. sharded: FSDP2 instead of DDP. Gradients are means over processes, and so is a loss, which is right as every
    process has as many parts of a step."""

    def __init__(self, place: Place, sharded: bool, device: torch.device, vigil: Vigil) -> None:
        self.rank, self.size, self.sharded, self.device = place.rank, place.size, sharded, device
        self.place, self.vigil = place, vigil
        own = device if device.type == "cuda" else None
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=meet(place, host=False),
            rank=place.rank,
            world_size=place.size,
            timeout=NEVER,
            device_id=own,
        )
        # Fabric finds the processes started and the group made; how it would start them itself is not used.
        os.environ |= {"LOCAL_RANK": str(place.local), "NODE_RANK": str(place.rank // place.here)}
        fabric = import_module(PACKAGE)
        strategies, plugins = (import_module(f"{PACKAGE}.{name}") for name in ("strategies", "plugins.environments"))
        strategy = (
            strategies.ModelParallelStrategy(_shard, data_parallel_size=place.size, tensor_parallel_size=1)
            if sharded
            else strategies.DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
        )
        strategy.parallel_devices = [device] * place.here
        self.fabric: Any = fabric.Fabric(
            accelerator=device.type,
            devices=min(place.here, torch.cuda.device_count()) if own else place.here,
            num_nodes=place.nodes,
            strategy=strategy,
            plugins=[plugins.LightningEnvironment()],
        )
        threads = torch.get_num_threads()
        self.fabric.launch()
        torch.set_num_threads(threads)

    def opened(self) -> None:
        self.vigil.tell("opened") if self.leads else self.vigil.ask("opened")

    @contextmanager
    def first_here(self) -> Iterator[None]:
        key = f"first/{self.rank // self.place.here}"
        if self.place.local:
            self.vigil.ask(key)
        yield
        if not self.place.local:
            self.vigil.tell(key)

    def same(self, seen: Callable[[], Mapping[str, str]]) -> None:
        mine = seen()
        if self.leads:
            self.vigil.tell("seen", json.dumps(dict(mine)))
        leader = json.loads(self.vigil.ask("seen"))
        for what, value in mine.items():
            if value != leader.get(what):
                raise InputError(
                    "RANKS_DIFFER",
                    f"rank {self.rank}",
                    found=f"{what} {value}",
                    expected=f"{leader.get(what)}, as rank 0 has it",
                    fix="let all machines see the same files and the same environment",
                )
        self.wait()
        self.vigil.training = True

    def turns(self, players: Mapping[str, nn.Module]) -> Mapping[str, Turn]:
        """Raises InputError BAD_OPTION for networks that cannot be sharded."""
        if self.sharded and len(players) > 1:
            raise _not_sharded(f"{' and '.join(players)}, trained in turn")
        try:
            wrapped = {
                name: self.fabric.setup_module(_Player(player), move_to_device=False) for name, player in players.items()
            }
        except (ValueError, NotImplementedError) as error:
            if not self.sharded:
                raise
            raise _not_sharded(next(iter(str(error).splitlines()), "")) from error
        return {name: partial(self._turn, module) for name, module in wrapped.items()}

    def _turn(self, module: nn.Module, loss: Callable[[], Tensor], last: bool) -> Tensor:
        # Sharded gradients are reduced after each part: kept whole until the last one, they would take what sharding saves.
        with self.fabric.no_backward_sync(module, enabled=not last and not self.sharded):
            value: Tensor = module(loss)
            self.fabric.backward(value)
        return value.detach()

    @contextmanager
    def counted(self, model: nn.Module) -> Iterator[None]:
        """Running statistics become those of one process that sees the parts of all, rank after rank; to what else is counted,
        each adds what it counted."""
        before = [(module, {name: value.clone() for name, value in _counts(module)}) for module in model.modules()]
        yield
        counts = [count for module, old in before for count in _since(module, old)]
        if not counts:
            return
        shares = [(new.double() - kept * old.double()) * kept ** (self.size - 1 - self.rank) for new, old, kept in counts]
        flat = torch.cat([share.flatten() for share in shares])
        torch.distributed.all_reduce(flat)
        added = torch.split(flat, [share.numel() for share in shares])
        for (new, old, kept), share in zip(counts, added, strict=True):
            new.copy_(kept**self.size * old.double() + share.reshape(old.shape))

    def mean(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [value / self.size for value in total.tolist()]

    def led(self, values: Sequence[float]) -> list[float]:
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(told, 0)
        return [float(value) for value in told.tolist()]

    def whole(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, value in tensors.items():
            if self.leads:
                yield name, _put_together(value)
            else:
                _put_together(value)

    def gathered(self, rows: Sequence[Row]) -> list[Row]:
        mine = torch.frombuffer(bytearray(json.dumps([dict(row) for row in rows]).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.size)]
        torch.distributed.all_gather(sizes, torch.tensor([len(mine)], device=self.device))
        longest = int(max(int(size) for size in sizes))
        padded = torch.zeros(longest, dtype=torch.uint8, device=self.device)
        padded[: len(mine)] = mine.to(self.device)
        every = [torch.zeros_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(every, padded)
        shares = [json.loads(part[: int(size)].cpu().numpy().tobytes()) for part, size in zip(every, sizes, strict=True)]
        count = sum(map(len, shares))
        return [shares[k % self.size][k // self.size] for k in range(count)]


def _put_together(value: Tensor) -> Tensor:
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole


class _Player(nn.Module):
    """A player whose forward pass is the computation of its loss, however that uses the player: what Fabric wraps."""

    def __init__(self, player: nn.Module) -> None:
        super().__init__()
        self.player = player

    def forward(self, loss: Callable[[], Tensor]) -> Tensor:
        return loss()


def _shard(module: nn.Module, mesh: Any) -> nn.Module:
    """The module with its parameters in rows over the processes, gathered unit by unit where these are used."""
    fully_shard = import_module("torch.distributed.fsdp").fully_shard
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # a layout with channels innermost cannot be cut into rows
    over = mesh["data_parallel"]
    for unit in units(module):
        fully_shard(unit, mesh=over)
    fully_shard(module, mesh=over)
    return module


def units(module: nn.Module) -> list[nn.Module]:
    """The submodules that are gathered one by one: the largest that hold no more than UNIT of the parameters, and layers that
    hold more. What consists of linear layers stays whole: attention uses their weights without calling them."""
    total = sum(p.numel() for p in module.parameters())
    found: list[nn.Module] = []

    def walk(part: nn.Module) -> None:
        own = sum(p.numel() for p in part.parameters())
        if own == 0 or part in found:
            return
        called = type(part).forward is not nn.Module.forward  # lists of modules are not
        children = list(part.children())
        deep = any(True for child in children for _ in child.children())
        whole = not children or (not deep and any(isinstance(child, nn.Linear) for child in children))
        if called and (own <= UNIT * total or whole):
            found.append(part)
            return
        for child in children:
            walk(child)

    for child in module.children():
        walk(child)
    return found


def _counts(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The buffers of this module alone in which a forward pass may count: those that are saved, less tables of indices."""
    saved = [(n, b) for n, b in module.named_buffers(recurse=False) if n not in module._non_persistent_buffers_set]
    return [(n, b) for n, b in saved if b.is_floating_point() or n == BATCHES]


def _since(module: nn.Module, before: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor | float]]:
    """Each buffer as it is and as it was, and the part of what it was that is left in it: batches of which a mean runs replace
    some of it each, to what else is counted they add."""
    for name, old in before.items():
        new = module.get_buffer(name)
        if isinstance(module, NORMS) and module.momentum is not None and name in RUNNING:
            batches = module.get_buffer(BATCHES) - before[BATCHES]
            yield new, old, (1 - module.momentum) ** batches.double()
        else:
            yield new, old, 1.0


def _not_sharded(found: str) -> InputError:
    return InputError(
        "BAD_OPTION",
        "--strategy fsdp",
        found=found,
        expected="one network whose blocks can be divided",
        fix="--strategy ddp",
    )
