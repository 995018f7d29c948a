"""What the rules decide otherwise where the images themselves are what is learned: nothing may have changed them before."""

from __future__ import annotations

import numpy as np

from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Augment, Decision, Grid, Normalise, Options, Plan, Player

RATE = (1e-3, 1e-4)  # peak of the cycle, and weight decay; not measured yet against others
RATE_OF_VIEWS = (1e-3, 5e-2)  # the same of pretraining
BETAS = (0.9, 0.95)  # of AdamW
WIDEST = (-(2.0**15), 2.0**15 - 1)  # what a CT can hold


def own_grid(reasons: dict[str, str]) -> Grid:
    """Each image's own."""
    reasons["grid.spacing"] = "each image on its own grid: a resampled one would not be the truth"
    return Grid(spacing=None)


def without_norm(shape: Decision, options: type[Options]) -> Decision:
    """The decision of a model's rules, and no normalisation where the model has a choice."""
    if "norm" not in options.model_fields:
        return shape
    why = "the brightness of a detail is what is to be found, and a norm hides it"
    return Decision({**shape.changes, "norm": "none"}, {**shape.reasons, "norm": why})


def of_images(plan: Plan, facts: Fingerprint) -> Plan:
    """The plan with images as they are: no value cut off, no voxel interpolated, no intensity changed; mirrored alone."""
    rate, decay = RATE
    still = "the image is the truth: mirrored and cut into windows, changed in no other way"
    why = {
        "augment": still,
        "normalise": plan.reasons["normalise"] + "; nothing is cut off, as what is could not come back",
        "training.lr": "AdamW on one cycle",
        "training.weight_decay": "every voxel teaches",
        "training.foreground": "every place teaches alike",
    }
    kept = {key: said for key, said in plan.reasons.items() if key not in ("augment.rotation", "augment.probability")}
    return plan.model_copy(
        update={
            "normalise": tuple(_unclipped(how, facts.dtype) for how in plan.normalise),
            "augment": Augment(
                probability=1.0,
                rotation=(),
                scale=0.0,
                shift=0.0,
                mirror=plan.augment.mirror,
                noise=0.0,
                blur=0.0,
                gamma=0.0,
                contrast=0.0,
                brightness=0.0,
            ),
            "training": plan.training.model_copy(update={"lr": rate, "weight_decay": decay, "foreground": 0.0}),
            "reasons": {**kept, **why},
        }
    )


def of_views(plan: Plan) -> Plan:
    """The plan with images moved and zoomed, but not recoloured, which was seen to be of no use (He et al., "Masked
    autoencoders are scalable vision learners", CVPR 2022, table 1e); weight decay and betas are theirs."""
    rate, decay = RATE_OF_VIEWS
    still = {"noise": 0.0, "blur": 0.0, "gamma": 0.0, "contrast": 0.0, "brightness": 0.0, "low_resolution": 0.0, "elastic": 0.0}
    how = {"lr": rate, "weight_decay": decay, "foreground": 0.0, "empty": None, "players": {"model": Player(betas=BETAS)}}
    why = {
        "augment": "what is hidden changes at every step: moved and zoomed, in no way recoloured",
        "augment.probability": "every image that a step sees",
        "training.lr": "AdamW on one cycle",
        "training.weight_decay": "as masked autoencoders have it",
        "training.foreground": "every place teaches alike",
    }
    return plan.model_copy(
        update={
            "augment": plan.augment.model_copy(update={**still, "probability": 1.0}),
            "training": plan.training.model_copy(update=how),
            "inference": plan.inference.model_copy(update={"mirror": False}),
            "reasons": {**plan.reasons, **why, "inference.mirror": "nothing is predicted"},
        }
    )


def _unclipped(how: Normalise, dtype: str) -> Normalise:
    """The same scale over all values: of a case its own, else those that the type of the files can hold."""
    if how.scope == "case":
        return how.model_copy(update={"low_percentile": 0.0, "high_percentile": 100.0})
    kind = np.dtype(dtype)
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if kind.kind in "iu" and kind.itemsize < 3 else WIDEST
    return how.model_copy(update={"low": float(low), "high": float(high)})
