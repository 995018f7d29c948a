"""One training step, traced on tensors without storage: what autograd keeps of it, and how many operations it takes."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hounsfield.core.plan import Plan
from hounsfield.data.augment import margin
from hounsfield.models.parts.blocks import units
from hounsfield.plan.blank import blank_batch, target_bytes
from hounsfield.plan.network import network
from hounsfield.tasks import TASKS, Solver

BACKWARD = 1.5  # times the largest map, when the backward pass begins
FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True)
class Traced:
    """Bytes; flops: operations of the forward pass, two for a product and its sum. Both of one part of a batch, which a step
    may accumulate, but `batch`: of one batch as it is read, all its parts together. layer: the largest tensor that learns, of
    what the gradients are of. largest: of the maps that autograd keeps. activations: what autograd keeps, and the
    first of the backward pass; recomputed: the same where each unit is computed again, None for a network without any, and for
    generators."""

    weights: int
    gradients: int
    layer: int
    largest: int
    activations: int
    recomputed: int | None
    batch: int
    flops: int


def traced(plan: Plan, device_type: str) -> Traced:
    """Nothing is allocated, but for networks that ask for values, of which two samples are computed."""
    return _traced(_Key.of(plan, device_type))


def flops(plan: Plan) -> int:
    """Operations of one training step of one network: the way back takes twice as many as the way there."""
    how = plan.training
    return (3 + how.recompute) * how.accumulate * traced(plan, "cpu").flops


@dataclass(frozen=True)
class _Key:
    """A plan as far as memory depends on it."""

    text: str
    cuda_amp: bool
    plan: Plan = field(compare=False)

    @classmethod
    def of(cls, plan: Plan, device_type: str) -> _Key:
        parts = {"task", "model", "ndim", "patch", "grid", "augment", "task_options", "model_options"}
        how = plan.training
        text = plan.model_dump_json(include=parts)
        sizes = (len(plan.classes), len(plan.channels), how.batch, how.accumulate, how.amp)
        return cls(f"{text} {sizes}", how.amp and device_type != "cpu", plan)


@dataclass(frozen=True)
class _Seen:
    """Bytes of each map that autograd keeps, all of them and where units are computed again; operations."""

    kept: list[int]
    again: list[int]
    flops: int


@lru_cache(maxsize=512)
def _traced(key: _Key) -> Traced:
    plan, how = key.plan, key.plan.training
    solver = TASKS.load(plan.task).Solver(plan)
    # The penalties of adversaries are gradients of gradients, which attention that is computed again has not.
    drawn, times = TASKS.load(plan.task).KIND == "generator", 1.0
    model, seen = _seen(key, solver, "meta", how.batch)
    if seen is None:  # a network that wants values: two samples stand for the batch
        few = min(2, how.batch)
        times = how.batch / few
        model, seen = _seen(key, solver, "cpu", few)
    kept, again, flops = (seen.kept, seen.again, seen.flops) if seen is not None else ([], [], 0)
    weights = sum(p.numel() * p.element_size() for p in model.state_dict().values())
    layers = [p.numel() * p.element_size() for p in model.parameters() if p.requires_grad]
    one = math.prod(plan.patch if plan.grid.size is not None else margin(plan.patch, plan.augment))
    sample = len(plan.channels) * 4 * one + target_bytes(plan, solver, one)
    return Traced(
        weights=weights,
        gradients=sum(layers),
        layer=max(layers, default=0),
        largest=math.ceil(max(kept, default=0) * times),
        activations=_peak(kept, times),
        recomputed=_peak(again, times) if units(model) and not drawn else None,
        batch=how.batch * how.accumulate * sample,
        flops=math.ceil(flops * times),
    )


def _peak(maps: list[int], times: float) -> int:
    return math.ceil((sum(maps) + BACKWARD * max(maps, default=0)) * times)


def _seen(key: _Key, solver: Solver, device: str, size: int) -> tuple[nn.Module, _Seen | None]:
    """The network, and what was seen of one step of `size` samples; None where it gave no answer."""
    plan, amp = key.plan, key.plan.training.amp
    with torch.device(device):
        model = network(plan).train()
        watch, work = _Watch(model), FlopCounterMode(display=False, custom_mapping={FUSED: _attended})
        kept: list[int] = []
        again: list[int] = []
        answers = [TASKS.load(plan.task).KIND == "generator"]  # whose parts are asked, not the whole
        model.register_forward_hook(lambda *_: answers.append(True))
        hooks = torch.autograd.graph.saved_tensors_hooks(watch.keep, lambda value: value)
        # A loss that depends on values ends the trace; what was seen so far counts.
        with torch.enable_grad(), hooks, _AsTrained(amp, key.cuda_amp), work, suppress(RuntimeError):
            for _, loss_fn in solver.steps(model, blank_batch(plan, solver, size)):
                try:
                    loss_fn()
                finally:  # of several players one after the other, the step that keeps most
                    held, less = watch.take()
                    kept, again = max(kept, held, key=sum), max(again, less, key=sum)
    return model, _Seen(kept, again, work.get_total_flops()) if any(answers) else None


class _Watch:
    """What autograd keeps of a forward pass, and which of it lies within one call of one unit."""

    def __init__(self, model: nn.Module) -> None:
        # A storage that is held keeps its id.
        self.own = {id(s): s for t in (*model.parameters(), *model.buffers()) for s in [t.untyped_storage()]}
        self.calls, self.inside = count(), list[int]()
        for unit in units(model):
            unit.register_forward_pre_hook(self._enter)
            unit.register_forward_hook(self._leave)
        self._begin()

    def _begin(self) -> None:
        self.kept: dict[int, torch.UntypedStorage] = {}
        self.call: dict[int, int | None] = {}  # within which alone it is kept
        self.given: dict[int, torch.UntypedStorage] = {}  # to units

    def _enter(self, _: nn.Module, values: tuple[Any, ...]) -> None:
        self.inside.append(next(self.calls))
        self.given |= {id(s): s for value in values if isinstance(value, Tensor) for s in [value.untyped_storage()]}

    def _leave(self, *_: Any) -> None:
        self.inside.pop()

    def keep(self, value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        key, call = id(storage), self.inside[-1] if self.inside else None
        if key not in self.own:
            self.call[key] = call if self.call.get(key, call) == call else None
            self.kept[key] = storage
        return value

    def take(self) -> tuple[list[int], list[int]]:
        """Bytes of each map, and of those that are held at once where units are computed again one by one; forgets them."""
        within: defaultdict[int, list[int]] = defaultdict(list)
        stay = {key: storage.nbytes() for key, storage in self.given.items() if key not in self.own}
        for key, storage in self.kept.items():
            call = self.call[key]
            if call is None:
                stay[key] = storage.nbytes()
            elif key not in stay:
                within[call].append(storage.nbytes())
        kept = [storage.nbytes() for storage in self.kept.values()]
        self._begin()
        return kept, [*stay.values(), *max(within.values(), key=sum, default=[])]


def _attended(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Operations of the fused kernel of a CPU, which torch's own counter does not know; of shapes."""
    found: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return found


class _AsTrained(TorchFunctionMode):
    """What tensors without storage do otherwise: torch.autocast to bfloat16 (active; cuda: as it does there), and attention, of
    which the fused kernels keep no table of all pairs."""

    def __init__(self, active: bool, cuda: bool) -> None:
        super().__init__()
        low = [f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)]
        low += ["linear", "matmul", "bmm", "baddbmm", "addmm", "scaled_dot_product_attention"]
        full = ["group_norm", "layer_norm"] if cuda else ["avg_pool3d", "max_pool3d", "max_pool3d_with_indices"]
        self.to = dict.fromkeys(low, torch.bfloat16) | dict.fromkeys(full, torch.float32) if active else {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind, kwargs = self.to.get(getattr(func, "__name__", "")), kwargs or {}
        if func is F.scaled_dot_product_attention:
            func = _attention
        if kind is None:
            return func(*args, **kwargs)

        def cast(value: Any) -> Any:
            return value.to(kind) if isinstance(value, Tensor) and value.is_floating_point() else value

        return func(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *more: Any,
    **named: Any,
) -> Tensor:
    """As the fused kernel computes it, which keeps a sum for each query; with dropout a CPU has none."""
    if not query.is_meta or query.ndim != 4 or dropout_p:
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, *more, **named)
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # which the kernel turns into numbers
        attn_mask = query.new_empty(attn_mask.shape)
    out: Tensor = FUSED(query, key, value, attn_mask=attn_mask)[0]
    return out
