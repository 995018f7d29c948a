"""Networks of the package timm, found by their names and built with fresh weights: nothing is ever downloaded.

Wightman: "PyTorch image models", 2019, https://github.com/huggingface/pytorch-image-models: hundreds of published networks for
pictures, written after their papers.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from torch import nn

from hounsfield.core.errors import InputError

DEFAULT = "resnet18"
STRIDE = 32  # by which sides are divisible: the whole step of nearly all of these networks
# Of timm's modules those whose networks fit their table of positions to the image.
ANY_SIZE = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")
TOO_SMALL = ("Kernel size can't be greater than actual input size", "Output size is too small")
ONE_VALUE = "Expected more than 1 value per channel when training"


def of_one_size(name: str) -> tuple[int, int] | None:
    """The sides (h, w) of the images that the network `name` is made for; None where others will do."""
    timm = import_module("timm")
    about = timm.models.get_pretrained_cfg(name)
    if about is None or not (about.fixed_input_size or about.min_input_size):
        return None
    height, width = about.input_size[1:]
    return height, width


def fits_positions(name: str) -> bool:
    """Whether the network takes other sizes with `dynamic_img_size`."""
    return bool(import_module("timm").models.is_model_in_modules(name, ANY_SIZE))


def check_name(name: str, ndim: int, member: str, instead: str) -> None:
    """member: the model that was asked for; instead: one that needs no timm and takes volumes.

    Raises InputError UNSUPPORTED_PAIR (3D), MISSING_EXTRA, UNKNOWN_MEMBER (the nearest names).
    """
    where = f"--model {member}:{name}"
    if ndim != 2:
        raise InputError(
            "UNSUPPORTED_PAIR",
            where,
            found=f"{ndim}D images",
            expected="2D images, for which the networks of timm are made",
            fix=f"--model {instead}",
        )
    try:
        timm = import_module("timm")
    except ImportError as error:
        raise InputError(
            "MISSING_EXTRA",
            where,
            found=f"no package timm ({error})",
            expected="the extra timm",
            fix="pip install 'hounsfield[timm]'",
        ) from error
    names = timm.list_models()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        raise InputError(
            "UNKNOWN_MEMBER",
            where,
            found="no network of this name in timm",
            expected="a name without the tag of its weights, which are drawn anew",
            fix=f"did you mean {' or '.join(near)}?" if near else "choose one of timm.list_models()",
        )


def applied(network: nn.Module, x: Any, where: str) -> Any:
    """network(x). Raises InputError BAD_PLAN for a batch that cannot be normalised by, and for images that are too small."""
    try:
        return network(x)
    except (RuntimeError, ValueError) as error:
        said, sides = str(error), list(x.shape[2:])
        if ONE_VALUE in said:
            found, expected, fix = "a batch of 1", "2 or more, to normalise by", "--set training.batch=2"
        elif any(part in said for part in TOO_SMALL):
            found, expected = f"images of {sides}", "larger ones, for its many steps"
            fix = "--set patch=[224,224] --set grid.size=[224,224]"
        else:
            raise
        raise InputError("BAD_PLAN", where, found=found, expected=expected, fix=fix) from error


def unsuitable(where: str, found: str, expected: str, instead: str) -> InputError:
    """UNSUPPORTED_PAIR of a network that does not serve the task, where the model `instead` does."""
    return InputError("UNSUPPORTED_PAIR", where, found=found, expected=expected, fix=f"--model {instead}")
