"""The rules: from measured facts to decisions, each with the number behind it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity, Spread
from hounsfield.core.plan import Class, Plan
from hounsfield.models import MODELS
from hounsfield.plan.rules import check, decide


def facts(**changes: Any) -> Fingerprint:
    values: dict[str, Any] = {
        "cases": 100,
        "patients": None,
        "ndim": 3,
        "space": "patient",
        "channels": ("MRI",),
        "modality": None,
        "dtype": "int16",
        "shape_min": (30, 40, 30),
        "shape_median": (36, 50, 35),
        "shape_max": (44, 60, 44),
        "spacing_min": (1.0, 1.0, 1.0),
        "spacing_median": (1.0, 1.0, 1.0),
        "spacing_max": (1.0, 1.0, 1.0),
        "intensity": (Intensity(low=0, median=100, high=300, mean=110, std=60),),
        "classes": (ClassFacts(value=1, name="tumour", cases=90, fraction=0.02),),
        **changes,
    }
    return Fingerprint(**values)


def plan(found: Fingerprint, task: str = "segmentation", model: str | None = None, device: str = "cpu") -> Plan:
    return decide(found, tuple(Class(value=c.value, name=c.name) for c in found.classes), task, model, 3, device)


def test_windows_hold_the_median_image_and_fit_the_network() -> None:
    made = plan(facts())
    network = MODELS.load(made.model)
    assert all(p >= n for p, n in zip(made.patch, (36, 50, 35), strict=True))
    assert all(p % s == 0 for p, s in zip(made.patch, network.stride(made.model_options, 3), strict=True))
    assert "36×50×35" in made.reasons["patch"]


def test_large_volumes_are_cut_to_windows_of_equal_physical_sides() -> None:
    made = plan(facts(shape_median=(120, 512, 512), spacing_median=(3.0, 0.75, 0.75), spacing_min=(3.0, 0.7, 0.7)))
    sides = [p * s for p, s in zip(made.patch, (3.0, 0.75, 0.75), strict=True)]
    assert max(sides) <= 1.5 * min(sides)
    assert math.prod(made.patch) <= 1.5 * 2**18


def test_an_accelerator_gets_larger_windows_and_batches() -> None:
    large = facts(shape_median=(300, 300, 300))
    cpu, cuda = plan(large), plan(large, device="cuda")
    assert math.prod(cuda.patch) > 4 * math.prod(cpu.patch)
    small = facts(ndim=2, space="none", shape_median=(64, 64), spacing_median=(1, 1), spacing_min=(1, 1), spacing_max=(1, 1))
    assert plan(small, device="cuda").training.batch >= plan(small).training.batch


def test_the_coarse_axis_is_halved_last_and_rotated_never() -> None:
    made = plan(facts(shape_median=(20, 256, 256), spacing_median=(5.0, 1.0, 1.0), spacing_min=(5.0, 1.0, 1.0)))
    strides = made.model_options.model_dump()["strides"]
    assert tuple(strides[0]) == (1, 2, 2)
    assert made.augment.rotation[1:] == (0.0, 0.0)
    assert "5.0 times" in made.reasons["augment.rotation"]


@pytest.mark.parametrize(
    ("name", "mirrored"), [("tumour", True), ("left lung", False), ("lung_right", False), ("kidney_l", False), ("bright", True)]
)
def test_no_mirror_where_a_class_names_a_side(name: str, mirrored: bool) -> None:
    made = plan(facts(classes=(ClassFacts(value=1, name=name, cases=9, fraction=0.1),)))
    assert (made.augment.mirror == (2,)) is mirrored


@pytest.mark.parametrize(
    ("alike", "mirrored", "expected"),
    [
        (0.81, (-0.0, 0.21, 0.04), ()),  # a crop around one hippocampus
        (0.80, (0.1, 0.2, 0.78), (2,)),
        (0.97, (0.94, 0.96, 0.95), (0, 1, 2)),
        (0.05, (0.0, 0.1, 0.0), (0, 1, 2)),  # no common layout: no direction is special
    ],
)
def test_only_mirror_images_that_look_like_the_cases_are_learned(
    alike: float, mirrored: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    made = plan(facts(alike=alike, alike_mirrored=mirrored))
    assert made.augment.mirror == expected
    assert f"{alike:.2f}" in made.reasons["augment.mirror"]
    assert made.inference.mirror is (0 < len(expected) < 3)
    sided = plan(
        facts(alike=alike, alike_mirrored=mirrored, classes=(ClassFacts(value=1, name="left", cases=9, fraction=0.1),))
    )
    assert sided.augment.mirror == tuple(k for k in expected if k != 2)


def test_a_handful_of_cases_says_nothing_of_symmetry() -> None:
    made = plan(facts(cases=4, alike=0.9, alike_mirrored=(0.9, 0.9, 0.1)))
    assert made.augment.mirror == (2,)
    assert "4 cases do not tell" in made.reasons["augment.mirror"]


def test_every_group_of_decisions_has_its_reasons() -> None:
    for task in ("segmentation", "classification"):
        classes = tuple(ClassFacts(value=k, name=f"c{k}", cases=50, fraction=0.1) for k in range(2))
        made = plan(facts(classes=classes), task)
        wanted = {"model", "normalise", "augment.mirror", "augment.probability", "augment.rotation", "training.batch"}
        wanted |= {"training.lr", "training.weight_decay", "inference.mirror"}
        wanted |= {"grid.size"} if task == "classification" else {"patch", "grid.spacing", "training.foreground"}
        assert wanted <= set(made.reasons)


def test_ct_and_pictures_share_one_scale_and_mr_has_its_own_for_each_case() -> None:
    (ct,) = plan(facts(modality="CT")).normalise
    assert (ct.scope, ct.low, ct.high, ct.mean, ct.std) == ("dataset", 0, 300, 110, 60)
    assert plan(facts(dtype="uint8", space="none")).normalise[0].scope == "dataset"
    assert plan(facts(dtype="uint8")).normalise[0].scope == "case"  # a scan saved in few bits
    assert plan(facts(modality="MR")).normalise[0].scope == "case"


def test_a_standard_histogram_stands_ready_where_values_differ_from_scan_to_scan() -> None:
    landmarks = ((0.5, 0.0), (50.0, 0.5), (99.5, 1.0))
    seen = Intensity(low=0, median=100, high=300, mean=110, std=60, landmarks=landmarks)
    (each,) = plan(facts(modality="MR", intensity=(seen,))).normalise
    assert (each.scope, each.landmarks, each.low, each.high) == ("case", landmarks, 0, 1)
    assert each.mean == pytest.approx(0.5)
    assert each.std == pytest.approx((0.99 / 12 + 0.01 / 4) ** 0.5, abs=1e-6)  # even between the ends, half a percent on each
    chosen = plan(facts(modality="MR", intensity=(seen,))).override({"normalise.0.scope": "histogram"}, "set")
    assert chosen.normalise[0].scope == "histogram"
    with pytest.raises(InputError, match="two or more that rise") as caught:
        plan(facts(modality="CT")).override({"normalise.0.scope": "histogram"}, "set")
    assert caught.value.code == "BAD_PLAN"
    with pytest.raises(InputError, match=r"unknown key 'normalise\.1\.scope'"):
        plan(facts()).override({"normalise.1.scope": "case"}, "set")


def test_pictures_without_spacing_keep_their_pixels() -> None:
    found = facts(ndim=2, space="none", shape_median=(584, 565), spacing_median=(1, 1), spacing_min=(1, 1), spacing_max=(1, 1))
    made = plan(found)
    assert made.grid.spacing is None
    assert made.patch[0] * made.patch[1] <= 1.2 * 512**2


def test_whole_images_are_made_smaller_and_tiny_ones_larger() -> None:
    flat = {"ndim": 2, "space": "none", "spacing_median": (1, 1), "spacing_min": (1, 1), "spacing_max": (1, 1)}
    assert plan(facts(shape_median=(28, 28), **flat), "classification").patch == (56, 56)
    assert plan(facts(shape_median=(8, 4), **flat), "classification").patch == (56, 28)
    assert plan(facts(shape_median=(60, 40), **flat), "classification").patch == (60, 40)
    assert plan(facts(shape_median=(16, 16, 16)), "classification").patch == (16, 16, 16)
    assert plan(facts(shape_median=(2000, 1000), **flat), "classification").patch == (224, 112)


def test_long_tailed_classes_are_weighted_and_say_why() -> None:
    flat = {"ndim": 2, "space": "none", "spacing_median": (1, 1), "spacing_min": (1, 1), "spacing_max": (1, 1)}
    counts = [ClassFacts(value=k, name=f"c{k}", cases=n, fraction=n / 111) for k, n in enumerate((100, 10, 1))]
    made = plan(facts(shape_median=(28, 28), classes=tuple(counts), **flat), "classification")
    weights = made.task_options.model_dump()["weights"]
    assert weights[0] < weights[1] < weights[2]
    assert "100.0 times" in made.reasons["task_options.weights"]


def test_a_batch_never_outgrows_a_small_set() -> None:
    flat = {"ndim": 2, "space": "none", "spacing_median": (1, 1), "spacing_min": (1, 1), "spacing_max": (1, 1)}
    assert plan(facts(shape_median=(28, 28), cases=20, **flat), "classification").training.batch == 2
    assert plan(facts(shape_median=(28, 28), cases=5000, **flat), "classification").training.batch == 32


def test_the_seed_and_the_chosen_model_are_kept() -> None:
    made = plan(facts())
    assert made.seed == 3
    assert made.reasons["model"] == "the default for segmentation"
    assert plan(facts(), model="unet").reasons["model"] == "chosen with --model"


def test_a_model_s_name_may_name_a_network() -> None:
    classes = tuple(ClassFacts(value=k, name=f"c{k}", cases=50, fraction=0.5) for k in range(2))
    picture = facts(
        ndim=2,
        space="none",
        classes=classes,
        shape_min=(300, 400),
        shape_median=(300, 400),
        shape_max=(300, 400),
        spacing_min=(1.0, 1.0),
        spacing_median=(1.0, 1.0),
        spacing_max=(1.0, 1.0),
    )
    made = plan(picture, "classification", "timm:convnext_atto")
    assert (made.model, made.network) == ("timm", "timm:convnext_atto")
    assert made.reasons["model_options.name"] == "chosen with --model"
    assert made.patch == made.grid.size == (160, 224)  # 168 of 224 to the nearest multiple of 32
    assert plan(picture, "classification", "resnet").network == "resnet"
    assert plan(picture, "classification", "resnet").patch == (168, 224)
    with pytest.raises(InputError, match=r"BAD_OPTION --model resnet:18: found a name behind resnet, .*fix: --model resnet$"):
        plan(picture, "classification", "resnet:18")


@pytest.mark.parametrize(("empty", "share"), [(0, None), (50, None), (51, 0.5), (95, 0.5)])
def test_cases_without_a_box_are_at_most_half_of_what_is_seen(empty: int, share: float | None) -> None:
    flat = {"ndim": 2, "space": "none", "spacing_median": (1, 1), "spacing_min": (1, 1), "spacing_max": (1, 1)}
    sides = Spread(min=20, median=30, max=40, histogram=(5, 5), edges=(20, 30, 40))
    boxed = ClassFacts(value=1, name="mass", cases=100 - empty, fraction=1.0, boxes=10, box_sides=(sides, sides))
    shapes = dict.fromkeys(("shape_min", "shape_median", "shape_max"), (480, 640))
    made = plan(facts(**flat, **shapes, classes=(boxed,), empty_masks=empty), "detection")
    assert made.training.empty == share
    assert made.reasons.get("training.empty", "").startswith(f"{empty} of 100 cases have no box" if share else "")
    assert ("training.empty" in made.reasons) is (share is not None)
    assert plan(facts(empty_masks=95)).training.empty is None  # masks: windows are centred on a class instead


@pytest.mark.parametrize(
    ("task", "model", "whole"), [("classification", "vit", True), ("classification", "swin", True), ("segmentation", "unetr", False)]
)
def test_images_smaller_than_the_patch_of_a_transformer_are_refused(task: str, model: str, whole: bool) -> None:
    classes = tuple(ClassFacts(value=k + 1, name=f"c{k}", cases=50, fraction=0.1) for k in range(2))
    made = plan(facts(classes=classes), task, model)
    check(made)
    with pytest.raises(InputError, match=r"BAD_PLAN patch: .*expected multiples of \[128, 128, 128\]") as caught:
        check(made.override({"model_options.patch": [128]}, "set"))
    side = "[128,128,128]"
    assert str(caught.value).endswith(f"fix: --set patch={side}" + (f" --set grid.size={side}" if whole else ""))


def test_what_a_network_decides_of_its_training_is_in_the_plan_with_its_reason() -> None:
    classes = tuple(ClassFacts(value=k + 1, name=f"c{k}", cases=50, fraction=0.1) for k in range(2))
    usual, own = (plan(facts(classes=classes), "classification", model) for model in ("resnet", "vit"))
    decided = MODELS.load("vit").training()  # type: ignore[attr-defined]
    assert own.training == usual.training.model_copy(update=dict(decided.changes))
    for key, why in decided.reasons.items():
        assert own.reasons[f"training.{key}"] == why != usual.reasons.get(f"training.{key}")
