"""Each conformance check fails for a member that breaks what it checks: the suite is tested by saboteurs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ConfigDict
from tests.conformance import format_checks, method_checks, model_checks, reader_checks, task_checks
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Decision, Options
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import Match, class_folders
from hounsfield.explain.methods import gradcam
from hounsfield.io.formats import Choices, numpy
from hounsfield.models import lenet, unet
from hounsfield.tasks import classification


def but(member: ModuleType, **changes: Any) -> Any:
    """`member` with some of its names replaced."""
    return SimpleNamespace(**{**vars(member), **changes})


def rebuilt(change: Callable[[nn.Module], nn.Module], member: ModuleType = lenet) -> Any:
    """A model member whose networks are changed after they are built."""

    def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
        return change(member.build(options, in_channels, out_channels, ndim))

    return but(member, build=build)


class Around(nn.Module):
    """A network whose output is changed."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner = inner
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


class Forgetful(nn.Module):
    """A network with a random number that its state does not hold."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.secret = float(torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x) + self.secret
        return out


class Loose(lenet.Options):
    model_config = ConfigDict(extra="ignore")


def backwards(output: Any) -> Any:
    return output[::-1] if isinstance(output, tuple) else output


def idle(network: nn.Module) -> nn.Module:
    network.register_parameter("idle", nn.Parameter(torch.zeros(3)))
    return network


def infinite(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        parameter.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]
    return network


def seedless(network: nn.Module) -> nn.Module:
    generator = torch.Generator()
    generator.seed()
    for parameter in network.parameters():
        parameter.data.normal_(generator=generator)
    return network


def refusing(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    raise InputError("UNSUPPORTED_PAIR", "model", found="any", expected="none", fix="none")


MODELS: dict[str, tuple[Callable[..., None], Any, str]] = {
    "no source": (model_checks.check_it_names_its_source, but(lenet, __doc__="A network."), "no publication"),
    "loose options": (model_checks.check_options_are_strict, but(lenet, Options=Loose), "DID NOT RAISE"),
    "one output more": (
        model_checks.check_shapes_in_both_modes,
        but(lenet, build=lambda o, i, k, n: lenet.build(o, i, k + 1, n)),
        "not",
    ),
    "maps from coarse to fine": (
        model_checks.check_shapes_in_both_modes,
        rebuilt(lambda net: Around(net, backwards), unet),
        "in training",
    ),
    "refuses everything": (model_checks.check_shapes_in_both_modes, but(lenet, build=refusing), "neither 2D nor 3D"),
    "own randomness": (model_checks.check_weights_follow_the_seed, rebuilt(seedless), "the same seed gives other"),
    "idle parameter": (model_checks.check_every_parameter_learns_from_one_sample, rebuilt(idle), "idle gets no gradient"),
    "infinite gradient": (model_checks.check_every_parameter_learns_from_one_sample, rebuilt(infinite), "not finite"),
    "mixes samples": (
        model_checks.check_samples_do_not_mix_in_use,
        rebuilt(lambda net: Around(net, lambda out: out - out.mean(0))),
        "depends on its batch",
    ),
    "dropout in use": (
        model_checks.check_use_draws_no_random_number,
        rebuilt(lambda net: Around(net, lambda out: nn.functional.dropout(out, training=True))),
        "generator was used",
    ),
    "hidden state": (model_checks.check_weights_survive_safetensors, rebuilt(Forgetful), "state outside state_dict"),
    "false stride": (
        model_checks.check_stride_is_what_the_network_needs,
        but(lenet, stride=lambda options, ndim: (2,) * ndim),
        "DID NOT RAISE",
    ),
    "no reason": (
        model_checks.check_rules_decide_options_with_reasons,
        but(lenet, rules=lambda shape, voxel: Decision({"dropout": 0.1})),
        "a decision without a reason",
    ),
    "one size twice": (
        model_checks.check_sizes_fall,
        but(lenet, sizes=lambda options: (options, options)),
        "not from large to small",
    ),
}


def explained(change: Callable[..., Any]) -> Any:
    """Grad-CAM that does something else as well."""

    def explain(model: nn.Module, x: Tensor, score: Any) -> Tensor:
        heat: Tensor = change(model, x, score, gradcam.explain(model, x, score))
        return heat

    return but(gradcam, explain=explain)


def touching(model: nn.Module, x: Tensor, score: Any, heat: Tensor) -> Tensor:
    next(model.parameters()).data.add_(1)
    return heat


def hooking(model: nn.Module, x: Tensor, score: Any, heat: Tensor) -> Tensor:
    model.register_forward_hook(lambda *_: None)
    return heat


def evaluating(model: nn.Module, x: Tensor, score: Any, heat: Tensor) -> Tensor:
    model.eval()
    return heat


def backward(model: nn.Module, x: Tensor, score: Any, heat: Tensor) -> Tensor:
    torch.autograd.backward(score(model, x).sum())
    return heat


def undecided(model: nn.Module, x: Tensor, score: Any, heat: Tensor) -> Tensor:
    return heat * (2 if model.training else 1)


METHODS: dict[str, tuple[Callable[..., None], Any, str]] = {
    "no source": (method_checks.check_it_names_its_source, but(gradcam, __doc__="Heat."), "no publication"),
    "a channel axis": (
        method_checks.check_a_heatmap_has_the_input_s_size,
        explained(lambda m, x, s, heat: heat[:, None]),
        "for an input of",
    ),
    "double": (method_checks.check_a_heatmap_has_the_input_s_size, explained(lambda m, x, s, h: h.double()), "float64"),
    "not a number": (
        method_checks.check_a_heatmap_has_the_input_s_size,
        explained(lambda m, x, s, h: h / 0),
        "not finite",
    ),
    "flat": (method_checks.check_a_heatmap_has_the_input_s_size, explained(lambda m, x, s, h: h * 0), "a flat map"),
    "changes weights": (method_checks.check_the_model_is_left_as_it_was, explained(touching), "weights or buffers changed"),
    "leaves a hook": (method_checks.check_the_model_is_left_as_it_was, explained(hooking), "hooks were left"),
    "leaves its mode": (method_checks.check_the_model_is_left_as_it_was, explained(evaluating), "mode changed"),
    "leaves gradients": (method_checks.check_the_model_is_left_as_it_was, explained(backward), "gradients were left"),
    "changes its input": (
        method_checks.check_the_input_is_left_as_it_was,
        explained(lambda m, x, s, h: h + x.add_(1).sum() * 0),
        "the input changed",
    ),
    "depends on the mode": (method_checks.check_training_mode_gives_the_same_map, explained(undecided), "mode changes"),
    "scaled by the batch": (
        method_checks.check_samples_do_not_mix,
        explained(lambda m, x, s, h: h / h.max()),
        "depends on its batch",
    ),
    "noisy": (
        method_checks.check_it_repeats_and_draws_no_global_random_number,
        explained(lambda m, x, s, h: h + torch.rand_like(h)),
        "generator was used",
    ),
    "inverted": (
        method_checks.check_heat_lies_where_the_score_comes_from,
        explained(lambda m, x, s, h: h.amax() - h),
        "the heat is elsewhere",
    ),
}


def shifted(path: Path, choices: Choices) -> Image:
    image = numpy.read(path, choices)
    return Image(image.array, image.geometry.flip(0), image.meta)


def narrowed(path: Path, choices: Choices) -> Image:
    image = numpy.read(path, choices)
    return Image(image.array.astype(np.uint8), image.geometry, image.meta)


def padded(path: Path, choices: Choices) -> Image:
    """What is missing becomes zeros."""
    try:
        return numpy.read(path, choices)
    except InputError:
        return next(format_checks.images())


def untyped(path: Path, choices: Choices) -> Image:
    try:
        return numpy.read(path, choices)
    except InputError as error:
        raise RuntimeError("decoder failed") from error


def litters(image: Image, path: Path) -> None:
    numpy.write(image, path)
    path.with_suffix(".log").write_text("written")


def rewrites(path: Path, choices: Choices) -> Image:
    path.write_bytes(path.read_bytes() + b"\0")
    return numpy.read(path, choices)


FORMATS: dict[str, tuple[Callable[..., None], Any, str]] = {
    "no dot": (format_checks.check_endings, but(numpy, SUFFIXES=("npy",)), "is no ending"),
    "writes a stranger": (format_checks.check_endings, but(numpy, WRITES=(".npy", ".foo")), "does not read"),
    "flips": (format_checks.check_what_is_written_is_read_back, but(numpy, read=shifted), "another place"),
    "narrows": (format_checks.check_what_is_written_is_read_back, but(numpy, read=narrowed), "became uint8"),
    "litters": (format_checks.check_what_is_written_is_read_back, but(numpy, write=litters), "more than the file"),
    "takes anything": (
        format_checks.check_content_is_read_by_this_member,
        but(numpy, recognises=lambda path, head: True),
        "is read by|is recognised",
    ),
    "takes nothing": (
        format_checks.check_content_is_read_by_this_member,
        but(numpy, recognises=lambda path, head: False),
        "is not recognised",
    ),
    "fills what is missing": (format_checks.check_damage_is_told, but(numpy, read=padded), "as if it were whole"),
    "untyped error": (format_checks.check_damage_is_told, but(numpy, read=untyped), "decoder failed"),
    "peeks wrongly": (
        format_checks.check_peek_says_what_read_gives,
        but(numpy, peek=lambda path, choices: replace(numpy.peek(path, choices), channels=7)),
        "7 channels",
    ),
    "rewrites": (format_checks.check_reading_leaves_the_file_alone, but(numpy, read=rewrites), "a file was touched"),
}


def reads(change: Callable[[Dataset], Dataset]) -> Any:
    return but(class_folders, read=lambda path, choices: change(class_folders.read(path, choices)))


def first_sample(dataset: Dataset, **changes: Any) -> Dataset:
    return dataset.only([replace(dataset.samples[0], **changes), *dataset.samples[1:]])


def noting(path: Path, choices: Choices) -> Dataset:
    dataset = class_folders.read(path, choices)
    (path / "index.txt").write_text("seen")
    return dataset


LAYOUT = reader_checks.check_its_layout_is_taken_and_read
READERS: dict[str, tuple[Callable[..., None], Any, str]] = {
    "takes an empty folder": (
        reader_checks.check_an_empty_folder_is_not_taken_and_what_is_missed_is_said,
        but(class_folders, match=lambda path: Match("something")),
        "an empty folder is taken",
    ),
    "says nothing": (
        reader_checks.check_an_empty_folder_is_not_taken_and_what_is_missed_is_said,
        but(class_folders, match=lambda path: Match()),
        "does not say what it missed",
    ),
    "takes text": (
        reader_checks.check_text_is_not_taken,
        but(class_folders, match=lambda path: Match("files") if list(path.iterdir()) else Match(missed="files")),
        "text files are taken",
    ),
    "untyped error": (
        reader_checks.check_damaged_descriptions_raise_typed_errors,
        but(class_folders, match=lambda path: Match(str([f.read_text() for f in path.iterdir()]))),
        "codec can't decode",
    ),
    "not its own layout": (LAYOUT, but(class_folders, match=lambda path: Match(missed="x")), "its own layout is not taken"),
    "signs as another": (LAYOUT, reads(lambda d: replace(d, reader="msd")), "signs as"),
    "loses a case": (LAYOUT, reads(lambda d: d.only(d.samples[1:])), "3 samples of 4"),
    "an id that leaves": (LAYOUT, reads(lambda d: first_sample(d, id="../a")), "leave the output folder"),
    "a class beyond": (LAYOUT, reads(lambda d: first_sample(d, target=2)), "class 2 of 2"),
    "a missing channel": (LAYOUT, reads(lambda d: replace(d, channels=("a", "b"))), "1 channels, 2 names"),
    "writes into the folder": (LAYOUT, but(class_folders, read=noting), "folder was touched"),
    "forgets the choices": (
        reader_checks.check_every_file_is_read_by_the_users_choices,
        but(class_folders, read=lambda path, choices: class_folders.read(path, Choices(affine=choices.affine))),
        "without the user's choices",
    ),
}

TASKS: dict[str, tuple[Callable[..., None], Any, str]] = {
    "another kind": (task_checks.check_its_default_model_fits, but(classification, KIND="dense"), "gives none of"),
    "no default": (task_checks.check_its_default_model_fits, but(classification, MODEL="resnot"), "UNKNOWN_MEMBER"),
    "accepts anything": (
        task_checks.check_a_dataset_without_targets_is_refused,
        but(classification, targets=lambda dataset: None),
        "DID NOT RAISE",
    ),
    "unknown decision": (
        task_checks.check_rules_decide_options_with_reasons,
        but(classification, rules=lambda facts: Decision({"smooth": 1})),
        "unknown key 'smooth'",
    ),
    "loose options": (task_checks.check_options_are_strict, but(classification, Options=Loose), "DID NOT RAISE"),
}

SABOTEURS = [
    pytest.param(*saboteur, id=f"{kind}: {name}")
    for kind, table in (("model", MODELS), ("method", METHODS), ("format", FORMATS), ("reader", READERS), ("task", TASKS))
    for name, saboteur in table.items()
]


@pytest.mark.parametrize(("check", "member", "words"), SABOTEURS)
def test_a_broken_member_is_found(check: Callable[..., None], member: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises((Exception, pytest.fail.Exception), match=words):
        check(member, tmp_path)


def test_every_check_has_a_saboteur() -> None:
    checks = {c for m in (model_checks, method_checks, format_checks, reader_checks, task_checks) for c in m.CHECKS}
    assert checks == {parameters.values[0] for parameters in SABOTEURS}
