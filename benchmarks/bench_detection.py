"""Boxes of a picture and of a volume: preparation, the network, and all that follows until the list of boxes is there.

Usage: python benchmarks/bench_detection.py

Weights are random, so the lists mean nothing. What follows a network costs more the more places score: the last layer of each
is scaled and shifted until as many of its scores exceed the threshold (`alike`), and the tables say how many boxes came of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench_timing import OURS, Row, Table, alone, by, peer, side_by_side
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Augment, Class, Grid, Normalise, Plan
from hounsfield.data.prepare import CPU, Prepared, prepare
from hounsfield.models import MODELS
from hounsfield.tasks import detection

PICTURE, SEEN = (480, 640), (320, 416)  # blood cells, and the size at which the rules see them on a CPU
VOLUME = (96, 96, 96)
CLASSES = 3
SCORED, THRESHOLD = 1000, 0.05  # scores of each detector that exceed the threshold
MERGE, MOST = 0.5, 300  # overlap from which boxes are one; boxes of one image
SECONDS = 20.0  # of each table


@dataclass(frozen=True)
class Contender:
    """run: one call, giving the number of boxes. network: the one that it asks. what: what it ran."""

    run: Callable[[], int]
    network: nn.Module
    what: str


def alike(last: nn.Module, logits: Callable[[], Iterable[Tensor]]) -> None:
    """Scales and shifts the layer `last` that gives the logits, so that they spread by 1 and SCORED exceed THRESHOLD."""
    weight, bias = last.parameters()
    bias.zero_()
    given = torch.cat([level.flatten() for level in logits()])
    spread = given.std()
    weight.div_(spread)
    bias.add_(math.log(THRESHOLD / (1 - THRESHOLD)) - (given / spread).topk(SCORED).values[-1])


def plan(ndim: int, size: tuple[int, ...], channels: int, smallest: float, width: int) -> Plan:
    """Of `fcos`: a picture brought to one size, or a volume in one window. smallest: side of the smallest usual box."""
    model = MODELS.load("fcos")
    changes = model.rules(size, (1.0,) * ndim, (smallest,) * ndim).changes
    return Plan(
        task="detection",
        model="fcos",
        ndim=3 if ndim == 3 else 2,
        classes=tuple(Class(value=k, name=f"class {k}") for k in range(CLASSES)),
        channels=tuple(f"channel {k}" for k in range(channels)),
        grid=Grid(size=size if ndim == 2 else None),
        normalise=(Normalise(scope="dataset", low=0, high=255, mean=110, std=60),) * channels,
        patch=size,
        augment=Augment(),
        task_options=detection.Options(merge=MERGE),
        model_options=model.Options.parse({**changes, "width": width}, "options"),
    )


def hounsfield(made: Plan, image: Image) -> tuple[Contender, Contender]:
    """From the image in memory, and from the tensor on the model grid, to boxes in the image's own pixels."""
    solver = detection.Solver(made)
    torch.manual_seed(0)
    network: Any = MODELS.load(made.model).build(made.model_options, len(made.channels), CLASSES, made.ndim).eval()
    ready = prepare(image, made.grid, made.normalise, CPU)
    alike(network.head.class_scores, lambda: (level[:, :CLASSES] for level in network(ready.tensor[None])))

    def boxes(prepared: Prepared) -> int:
        found = solver.decode(solver.infer([network], prepared.tensor[None]), prepared)
        assert found.scores is not None
        return int((found.scores >= THRESHOLD).sum())

    what = f"`{made.model}` of width {made.model_options.model_dump()['width']}, `Solver.infer` and `decode`"
    whole = Contender(lambda: boxes(prepare(image, made.grid, made.normalise, CPU)), network, f"`prepare`, {what}")
    return whole, Contender(lambda: boxes(ready), network, what)


def torchvision(image: Image) -> Contender:
    """RetinaNet on a ResNet-50, seeing the picture at the same size."""
    torch.manual_seed(0)
    net = peer("torchvision.models.detection").retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES,
        fixed_size=SEEN[::-1],
        score_thresh=THRESHOLD,
        nms_thresh=MERGE,
        detections_per_img=MOST,
    )
    net.eval()
    seen = net.transform([unit(image)], None)[0].tensors
    assert tuple(seen.shape[2:]) == SEEN
    alike(net.head.classification_head.cls_logits, lambda: [net.head(list(net.backbone(seen).values()))["cls_logits"]])
    what = "`retinanet_resnet50_fpn`: strides 8 to 128, nine anchors a place; resizing and normalisation are its own"
    return Contender(lambda: len(net([unit(image)])[0]["boxes"]), net, what)


def monai(image: Image) -> Contender:
    """RetinaNet on a 3D ResNet-50, with the anchors of its tutorial on nodules."""
    networks = "monai.apps.detection.networks"
    network, detector = peer(f"{networks}.retinanet_network"), peer(f"{networks}.retinanet_detector")
    anchors = peer("monai.apps.detection.utils.anchor_utils").AnchorGeneratorWithAnchorShape(
        feature_map_scales=(1, 2, 4), base_anchor_shapes=((6, 8, 4), (8, 6, 5), (10, 10, 6))
    )
    torch.manual_seed(0)
    backbone = peer("monai.networks.nets").resnet50(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=(2, 2, 2), conv1_t_size=(7, 7, 7)
    )
    features = network.resnet_fpn_feature_extractor(backbone, 3, returned_layers=(1, 2))
    net = network.RetinaNet(3, CLASSES, 3, features, size_divisible=16)
    whole = detector.RetinaNetDetector(net, anchors)
    whole.set_box_selector_parameters(
        score_thresh=THRESHOLD, topk_candidates_per_level=1000, nms_thresh=MERGE, detections_per_img=MOST
    )
    whole.eval()
    alike(net.classification_head.cls_logits, lambda: net(unit(image)[None])[net.cls_key])
    what = "`RetinaNetDetector` on `resnet50`: strides 4 to 16, three anchors a place; values in [0, 1]"
    return Contender(lambda: len(whole([unit(image)])[0]["boxes"]), whole, what)


def unit(image: Image) -> Tensor:
    """(C, *s) in [0, 1], as the peers want it."""
    return torch.from_numpy(np.asarray(image.array, dtype=np.float32)) / 255


def noise(size: tuple[int, ...], channels: int) -> Image:
    """Bright and dark spots of 8 and more."""
    coarse = torch.rand(1, channels, *(n // 8 for n in size), generator=torch.Generator().manual_seed(1))
    fine = F.interpolate(coarse, size, mode="bilinear" if len(size) == 2 else "trilinear")[0]
    return Image((255 * fine).to(torch.uint8).numpy(), Geometry.none(size))


def table(title: str, seen: str, unit_of: str, contenders: dict[str, Contender]) -> Table:
    about = (
        f"{seen}, {CLASSES} classes, random weights, {SCORED} scores above {THRESHOLD}; boxes that overlap by more than "
        f"{MERGE} are one, at most {MOST} stay; {torch.get_num_threads()} threads."
    )
    found = {name: each.run() for name, each in contenders.items()}
    timings = side_by_side({name: each.run for name, each in contenders.items()}, SECONDS)
    rows = []
    for name, each in contenders.items():
        weights = f"{sum(p.numel() for p in each.network.parameters()) / 1e6:.1f} million"
        rows.append(Row(name, timings[name], each.what, {"weights": weights, "boxes": str(found[name])}))
    return Table(title, about, unit_of, tuple(rows))


@torch.no_grad()
def measure() -> list[Table]:
    """A picture beside torchvision, a volume beside MONAI."""
    picture, volume = noise(PICTURE, 3), noise(VOLUME, 1)
    wide, wide_prepared = hounsfield(plan(2, SEEN, 3, 24, 64), picture)
    narrow, _ = hounsfield(plan(2, SEEN, 3, 24, 32), picture)
    deep, deep_prepared = hounsfield(plan(3, VOLUME, 1, 12, 32), volume)
    flat = {OURS: wide, f"{OURS}, prepared before": wide_prepared, f"{OURS}, half as wide": narrow}
    return [
        table(
            "Boxes of a picture",
            f"{by(PICTURE)} pixels of three channels, seen at {by(SEEN)}",
            "one picture",
            {**flat, "torchvision": torchvision(picture)},
        ),
        table(
            "Boxes of a volume",
            f"{by(VOLUME)} voxels in one window",
            "one volume",
            {OURS: deep, f"{OURS}, prepared before": deep_prepared, "MONAI": monai(volume)},
        ),
    ]


if __name__ == "__main__":
    alone(measure)
