"""Beginning with weights that are there already, of another run, of a file or of timm: loaded where they fit, and told."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Options as ModelOptions
from hounsfield.core.plan import Plan
from hounsfield.models import MODELS
from hounsfield.models.parts.adopt import Adopted, adopt
from hounsfield.plan.budget import sizes
from hounsfield.plan.network import ends, inner, network
from hounsfield.plan.tuning import tuned
from hounsfield.tasks import TASKS, outputs
from hounsfield.workflow.console import first_few
from hounsfield.workflow.foreign import converted, is_foreign
from hounsfield.workflow.ready import Options, Ready
from hounsfield.workflow.run import Run, read_plan, read_tensors

TIMM: Final = "timm:"
FILE: Final = "model.safetensors"  # of timm's weights; none of another kind is ever read
LEAST: Final = 0.5  # of a network's weights, the output layer aside, that must fit
THREE: Final = 3  # names in a message
PER_AXIS: Final = {"patch", "strides"}  # options of networks that have a number for each axis


@dataclass(frozen=True, eq=False)
class Source:
    """Weights at hand. name: as a plan keeps it, a path or timm:NAME. run: whose they are. model: as `--model` names the
    network that they are of; None where a file does not say."""

    name: str
    tensors: Mapping[str, Tensor]
    run: Run | None = None
    model: str | None = None

    @property
    def digest(self) -> str:
        """12 digits of the SHA-256 of names, shapes and values."""
        found = hashlib.sha256()
        for name in sorted(self.tensors):
            value = self.tensors[name].contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            found.update(value.flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()[:12]

    def of(self, task: str, asked: str | None, ndim: int) -> tuple[str | None, ModelOptions | None]:
        """The model for a task where the user asked for `asked`, and its options where the weights decide them.

        Raises InputError UNSUPPORTED_PAIR for weights of a network that cannot do the task.
        """
        if self.model is None or asked not in (None, self.model):
            return asked, None
        member = TASKS.load(task)
        model = f"fcos_{self.model}" if self.model.startswith(TIMM) and task == "detection" else self.model
        output = MODELS.load(model.partition(":")[0]).OUTPUT
        if output not in outputs(member):
            raise InputError(
                "UNSUPPORTED_PAIR",
                "--init",
                found=f"weights of {self.model}, which gives a {output} output",
                expected=f"those of a network that gives a {' or '.join(outputs(member))} output, for {task}",
                fix=f"hounsfield pretrain ... --model {member.MODEL}, or another --model that takes these weights",
            )
        return model, None if self.run is None else _in(self.run.plan, ndim)


def _in(plan: Plan, ndim: int) -> ModelOptions | None:
    """The options of a plan's network for images of so many axes, the depth treated as the rows are; None for fewer axes."""
    options = plan.model_options
    if ndim <= plan.ndim:
        return options if ndim == plan.ndim else None
    values = options.model_dump()
    for key in PER_AXIS & set(values):
        each = [values[key]] if key == "patch" else values[key]
        deep = tuple((*step[:1], *step) if len(step) == plan.ndim else step for step in each)
        values[key] = deep[0] if key == "patch" else deep
    return type(options).parse(values, "--init")


def asked(options: Options) -> str:
    """What `--init`, `--set` or a plan file says; "" for weights that are drawn anew."""
    planned = "" if options.plan is None else read_plan(options.plan).training.init
    return options.init or str((options.changes or {}).get("training.init", planned))


def read(where: str) -> Source | None:
    """The weights that `--init` names: of a run its first member's; None for "".

    Raises InputError NOT_FOUND, NOT_A_RUN, BAD_WEIGHTS (damaged), UNSAFE_FILE (a pickle of more than tensors, none of which
    runs), MISSING_EXTRA, UNKNOWN_MEMBER; ResourceError FETCH_FAILED, OUT_OF_MEMORY.
    """
    if not where:
        return None
    if where.startswith(TIMM):
        return _of_timm(where)
    path = Path(where).resolve()
    if path.is_dir():
        run = Run(path)
        if not run.members:
            raise InputError(
                "NOT_A_RUN",
                path,
                found="no finished weights",
                expected="members/*/weights.safetensors",
                fix="finish the training with --resume",
            )
        return Source(str(path), read_tensors(run.members[0] / "weights.safetensors"), run, run.plan.network)
    if not path.is_file():
        raise InputError("NOT_FOUND", where, found="no such file or folder", expected="a run or weights", fix="check the path")
    if is_foreign(path):
        with converted(path) as file:  # which is gone afterwards
            return Source(str(path), {name: value.clone() for name, value in read_tensors(file).items()})
    return Source(str(path), read_tensors(path))


def adopted(plan: Plan, source: Source) -> Adopted:
    """What the plan's model takes of the weights. Raises InputError BAD_WEIGHTS where that is less than LEAST of it."""
    made = _adopted(plan, source)
    if made.share < LEAST:
        shapes = [f"{name} ({why})" for name, why in made.fresh.items() if why.startswith("of ")]
        lacking = [name for name, why in made.fresh.items() if why == "not there"]
        first = "; ".join(
            f"{what} {', '.join(names[:THREE])}" + (f" and {len(names) - THREE} more" if len(names) > THREE else "")
            for what, names in (("missing", lacking), ("unknown", made.unused), ("of other shape", shapes))
            if names
        )
        there = len(made.used) + len(made.adapted)
        raise InputError(
            "BAD_WEIGHTS",
            source.name,
            found=f"{there} of {there + len(made.fresh)} tensors that fit, {made.share:.0%} of the weights: {first}",
            expected=f"weights of {plan.network} in {plan.ndim}D for the most part",
            fix="name the network that they are of with --model, and its size with --set model_options.KEY=...",
        )
    return made


def planned(plan: Plan, source: Source, options: Options) -> Plan:
    """The plan with the network of the weights as its reason, and of a file the size that they fit best. The rate stays: at a
    third of it a short training learned less."""
    if source.model is not None and options.model is None:
        plan = plan.model_copy(update={"reasons": {**plan.reasons, "model": "--init: whose weights they are"}})
    candidates = sizes(plan) if source.run is None and options.size is None else [plan]
    if len(candidates) == 1:
        return plan
    best = max(candidates, key=lambda candidate: _adopted(candidate, source).share)
    return best.model_copy(update={"reasons": {**plan.reasons, "model_options": "--init: the size that the weights fit best"}})


def start(whole: nn.Module, plan: Plan, fresh: Collection[str], source: Source | None) -> list[str]:
    """Let a network with fresh weights begin as the plan says, in place. fresh: names in its model that begin anew; source:
    None where a checkpoint will bring the weights. Returns the names that learn."""
    if source is not None:
        model = inner(whole, ends(plan)[0])
        model.load_state_dict({**model.state_dict(), **_adopted(plan, source).tensors})
    return tuned(whole, plan, fresh)


def said(plan: Plan, source: Source, made: Adopted) -> str:
    """What was taken of the weights, and what learns, in one line. Raises what `tuned` raises."""
    name = source.name if source.name.startswith(TIMM) else Path(source.name).name
    there = len(made.used) + len(made.adapted)
    told = [f"begins as {name}: {there} of {there + len(made.fresh)} tensors, {made.share:.0%} of the weights"]
    if made.adapted:
        told.append(f"adapted {first_few(f'{key} ({how})' for key, how in made.adapted.items())}")
    if made.fresh:
        told.append(f"begin anew {first_few(f'{key} ({why})' for key, why in made.fresh.items())}")
    if made.unused:
        told.append(f"not used {first_few(made.unused)}")
    with torch.device("meta"):
        whole = network(plan)
        count = sum(p.numel() for p in whole.parameters())
        names = set(start(whole, plan, made.fresh, None))
        learning = sum(p.numel() for name, p in whole.named_parameters() if name in names)
    if learning < count:
        told.append(f"{learning / 1e6:.2f} of {count / 1e6:.2f} million weights learn")
    return "; ".join(told)


def record(source: Source, made: Adopted, ready: Ready) -> dict[str, Any]:
    """What `run.json` keeps of it. seen: how many cases of each other part the run of these weights was trained on."""
    return {
        "source": source.name,
        "sha256": source.digest,
        "used": len(made.used),
        "adapted": dict(made.adapted),
        "fresh": dict(made.fresh),
        "unused": len(made.unused),
        "seen": {part: len(set(getattr(ready.split, part)) & _seen(source, ready)) for part in ("val", "test")},
    }


def _seen(source: Source, ready: Ready) -> set[str]:
    """Ids that the run of these weights was trained on, where its data were the same."""
    run = source.run
    if run is None or Path(run.record["data"]).resolve() != ready.dataset.root.resolve():
        return set()
    return set(run.split.train)


def _adopted(plan: Plan, source: Source) -> Adopted:
    shapes, inputs, last = ends(plan)
    run = source.run
    same = run is not None and run.plan.task == plan.task and run.plan.classes == plan.classes
    with torch.device("meta"):
        model = inner(network(plan), shapes)
    return adopt(source.tensors, model, inputs, last, keep_outputs=same)


def _of_timm(where: str) -> Source:
    """Published weights of a network of timm, loaded from their publisher once and kept by its client."""
    name = where.removeprefix(TIMM)
    try:
        timm, hub = import_module("timm"), import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(
            "MISSING_EXTRA",
            f"--init {where}",
            found=f"no package timm ({error})",
            expected="the extra timm",
            fix="pip install 'hounsfield[timm]'",
        ) from error
    architecture = name.partition(".")[0]
    try:
        about = timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # a network that has no weights of this tag
        about = None
    if about is None or not about.hf_hub_id:
        near = timm.list_models(f"{architecture}*", pretrained=True)
        raise InputError(
            "UNKNOWN_MEMBER",
            f"--init {where}",
            found="no published weights of this name",
            expected="a name of timm.list_models(pretrained=True)",
            fix=f"choose one of {', '.join(near[:THREE])}" if near else "see timm.list_models(pretrained=True)",
        )
    try:
        file = hub.hf_hub_download(about.hf_hub_id, FILE)
    except Exception as error:  # of the network, of the publisher, or of a client told to stay offline
        raise ResourceError(
            "FETCH_FAILED",
            f"--init {where}",
            found=type(error).__name__,
            expected=f"{FILE} from its publisher",
            fix="try again with a network, or name a file that you have",
        ) from error
    return Source(where, read_tensors(Path(file)), model=f"{TIMM}{architecture}")
