"""The plan: every decision that a run obeys, typed, strict and with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from hounsfield.core.errors import InputError
from hounsfield.core.registry import nearest


class Options(BaseModel):
    """Base of every option set: frozen, unknown keys refused, values of the declared type only."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str | Path) -> Self:
        """Validated options. Raises InputError BAD_PLAN naming the key, the nearest key and the expected type."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                owner: Any = cls
                for part in first["loc"][:-1]:
                    owner = _inside(owner, part)
                fields = owner.model_fields
                found, expected, fix = f"unknown key {key!r}", "a key of the plan", nearest(str(first["loc"][-1]), fields)
            elif not key:  # values that do not go together
                found, expected, fix = (
                    first["msg"].removeprefix("Value error, "),
                    "values that fit together",
                    "change one of them",
                )
            else:
                found = f"{key!r} = {first['input']!r}"[:200]
                expected, fix = first["msg"], f"set {key!r} to such a value"
            raise InputError("BAD_PLAN", where, found=found, expected=expected, fix=fix) from error


class Class(Options):
    """value: as stored in the source's masks or labels. colour: sRGB. code: (scheme, value, meaning) of a coded concept."""

    value: int
    name: str
    colour: tuple[int, int, int] = (230, 60, 60)
    code: tuple[str, str, str] | None = None


class Normalise(Options):
    """How one channel's values become model input: clip to [low, high], then (x - mean) / std.

    scope "case": clipping percentiles, mean and std are those of each image (MR, US); "dataset": the plan's (CT, where
    values mean the same everywhere; 8-bit pictures); "histogram": each image's percentiles are first brought to `landmarks`,
    linearly between them (Nyúl & Udupa, Magn. Reson. Med. 42, 1999), then the plan's low, high, mean and std hold.
    landmarks: (percentile, standard value), both rising; fitted on the training part, from 0 to 1.
    """

    scope: Literal["case", "dataset", "histogram"]
    low: float = 0.0
    high: float = 255.0
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    low_percentile: float = 0.5
    high_percentile: float = 99.5
    landmarks: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _has_landmarks(self) -> Self:
        rising = all(a < c and b <= d for (a, b), (c, d) in pairwise(self.landmarks))
        if not rising or (self.scope == "histogram" and len(self.landmarks) < 2):
            raise ValueError(f"landmarks = {list(self.landmarks)} of scope {self.scope}: two or more that rise")
        return self


class Grid(Options):
    """The model grid. spacing: per axis (d, h, w) in mm; None: as each image comes, and so does one that knows no spacing.
    size: whole-image models resize to it; None: windows of `Plan.patch` on the spacing.
    crop_foreground: leave out the margin where every channel is at its minimum."""

    spacing: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    crop_foreground: bool = False


class Augment(Options):
    """Ranges of random changes, drawn per sample with the given probability. 0 switches a change off.

    rotation: largest angle in degrees about each axis (3D: about d, h, w, none about those left out; 2D: one angle).
    scale: fraction. shift: fraction of the patch.
    elastic: displacement in voxels. mirror: axes of the model grid whose mirror image is anatomically possible.
    noise: standard deviation in normalised units. blur: sigma in voxels. gamma, contrast, brightness: fraction.
    low_resolution: strongest zoom-out factor.
    """

    probability: float = Field(default=0.5, ge=0, le=1)
    rotation: tuple[float, ...] = (15.0,)
    scale: float = Field(default=0.2, ge=0, lt=1)
    shift: float = Field(default=0.05, ge=0)
    elastic: float = Field(default=0.0, ge=0)
    mirror: tuple[int, ...] = ()
    noise: float = Field(default=0.1, ge=0)
    blur: float = Field(default=0.7, ge=0)
    gamma: float = Field(default=0.3, ge=0)
    contrast: float = Field(default=0.2, ge=0)
    brightness: float = Field(default=0.1, ge=0)
    low_resolution: float = Field(default=0.0, ge=0)


class Player(Options):
    """What one player of a training has of its own. rate: its learning rate, times that of all. betas: how slowly AdamW forgets
    the mean of gradients, and of their squares."""

    rate: float = Field(default=1.0, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)


class Training(Options):
    """The loop. steps: optimiser steps; batch: samples a step and accumulation part. lr: peak of one cycle. ema: decay of the
    averaged weights that the run keeps, 0 for the last weights. clip: largest gradient norm, 0 for none. amp: run the forward
    pass in bfloat16.
    channels_last: keep activations with the channels innermost. compile: let torch.compile fuse the network.
    recompute: forget the maps inside each unit of the network, and compute them again for the gradients: less memory for one
    more forward pass.
    foreground: part of the windows that are centred on a foreground voxel. empty: part of the samples that are drawn from cases
    without any box or label, None for as many as there are.
    players: of a network whose parts are optimised in turn, what a part has of its own, by its name.
    init: what the weights begin as, such as another run; "" for drawn anew. With such weights alone: frozen: what of them stays
    as it is, "encoder" the way down, "body" all but the output layer; layer_decay: the rate of a layer over that of the next;
    lora: rank of the changes that are learned in the place of the weights (Hu et al., ICLR 2022), 0 for these themselves."""

    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(default=3e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = 1e-2
    clip: float = 1.0
    ema: float = Field(default=0.0, ge=0, lt=1)
    amp: bool = False
    channels_last: bool = False
    compile: bool = False
    recompute: bool = False
    foreground: float = Field(default=0.33, ge=0, le=1)
    empty: float | None = Field(default=None, ge=0, lt=1)
    players: dict[str, Player] = {}
    init: str = ""
    frozen: Literal["none", "encoder", "body"] = "none"
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    lora: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        asked = {"frozen": self.frozen != "none", "layer_decay": self.layer_decay != 1, "lora": self.lora > 0}
        if not self.init and any(asked.values()):
            key = next(name for name, there in asked.items() if there)
            raise ValueError(f"training.{key} of weights that are drawn anew: name some with --init")
        if self.lora and self.frozen != "none":
            raise ValueError(f"training.frozen = {self.frozen} beside training.lora, which changes no weight itself")
        return self


class Members(Options):
    """How many networks one run trains, whose mean predicts. folds: parts of the training cases, each left out by members of
    its own (1: none is left out); seeds: members of each fold, which differ in weights, order and augmentation."""

    folds: int = Field(default=1, ge=1)
    seeds: int = Field(default=1, ge=1)

    @property
    def count(self) -> int:
        return self.folds * self.seeds


class Inference(Options):
    """overlap: of neighbouring windows, fraction of the patch. mirror: average over the mirrored axes of the augmentation."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    mirror: bool = False


class Plan(Options):
    """Everything a run decides. `reasons` maps a dotted key to one line that names the measured number behind its value."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    task: str
    model: str
    ndim: Literal[2, 3]
    classes: tuple[Class, ...]
    channels: tuple[str, ...]
    grid: Grid
    normalise: tuple[Normalise, ...]
    patch: tuple[int, ...]
    augment: Augment = Augment()
    training: Training = Training()
    members: Members = Members()
    inference: Inference = Inference()
    task_options: SerializeAsAny[Options]
    model_options: SerializeAsAny[Options]
    seed: int = 0
    reasons: dict[str, str] = {}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        axes = {"patch": self.patch, "grid.spacing": self.grid.spacing, "grid.size": self.grid.size}
        for key, values in axes.items():
            if values is not None and (len(values) != self.ndim or min(values) <= 0):
                raise ValueError(f"{key} = {list(values)} in {self.ndim}D, where it takes {self.ndim} numbers above 0")
        if self.grid.size is not None and self.grid.spacing is not None:
            raise ValueError("grid.size and grid.spacing, which both say how large a voxel is")
        if self.grid.size is not None and self.grid.size != self.patch:
            raise ValueError(f"patch = {list(self.patch)} of whole images of grid.size = {list(self.grid.size)}")
        if len(self.normalise) != len(self.channels):
            raise ValueError(f"normalise for {len(self.normalise)} of {len(self.channels)} channels")
        if not set(self.augment.mirror) <= set(range(self.ndim)):
            raise ValueError(f"augment.mirror = {list(self.augment.mirror)} where the axes are 0 to {self.ndim - 1}")
        if len(self.augment.rotation) > (1 if self.ndim == 2 else 3):
            raise ValueError(f"augment.rotation = {list(self.augment.rotation)}, too many angles for {self.ndim}D")
        return self

    @classmethod
    def parse_as(
        cls, values: Mapping[str, Any], where: str | Path, task_options: type[Options], model_options: type[Options]
    ) -> Plan:
        """A plan whose nested options are of the members' own types. Raises InputError BAD_PLAN."""
        nested = {
            "task_options": task_options.parse(values.get("task_options", {}), f"{where} task_options"),
            "model_options": model_options.parse(values.get("model_options", {}), f"{where} model_options"),
        }
        return cls.parse({**values, **nested}, where)

    @property
    def network(self) -> str:
        """The model as `--model` names it, such as "unet" or "timm:resnet18"."""
        name = getattr(self.model_options, "name", None)
        return self.model if name is None else f"{self.model}:{name}"

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2) + "\n"

    def override(self, changes: Mapping[str, Any], why: str) -> Plan:
        """A plan with dotted keys replaced (`{"model_options.width": 16}`), `why` recorded as their reason. Numbers are places
        in a list: `normalise.0.scope`.

        Raises InputError BAD_PLAN for an unknown key (naming the nearest) or a value of another type.
        """
        values = self.model_dump(mode="json", by_alias=True)
        for key, value in changes.items():
            *parents, last = key.split(".")
            node: Any = values
            for part in parents:
                if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                    node = node[int(part)]
                else:
                    node = node.get(part) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise InputError(
                    "BAD_PLAN",
                    f"--set {key}",
                    found=f"unknown key {key!r}",
                    expected="a key of the plan",
                    fix=nearest(key, _dotted(values)),
                )
            node[last] = value
            values["reasons"][key] = why
        return type(self).parse_as(values, "--set", type(self.task_options), type(self.model_options))


@dataclass(frozen=True)
class Decision:
    """What a member's own rules decided. changes: option names to values; reasons: one line for each, naming the measured
    number behind it."""

    changes: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)


def _inside(owner: Any, part: int | str) -> Any:
    """The type of what lies at `part` of a tuple, of a dict, or of options."""
    if isinstance(part, int):
        return get_args(owner)[0]
    return get_args(owner)[1] if get_origin(owner) is dict else owner.model_fields[part].annotation


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        keys.append(prefix + key)
        if isinstance(value, dict) and key != "reasons":
            keys += _dotted(value, f"{prefix}{key}.")
    return keys
