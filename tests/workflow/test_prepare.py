"""Cases prepared in the cache: as many bytes as were asked for, each case once."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from hounsfield.data.cache import Cache
from hounsfield.data.prepare import CPU
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.prepare import grid_spacing, prepare_all
from hounsfield.workflow.ready import Options, open_ready
from hounsfield.workflow.run import Run


def test_the_cache_is_asked_for_no_less_than_it_will_hold(
    phantoms: Path, segmenter: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for not much more than the cases as they are before compression."""
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    ready = open_ready(phantoms, Options(device="cpu"), SILENT)
    samples = ready.part("train")
    asked: list[dict[str, int]] = []
    monkeypatch.setattr(Cache, "make_room", lambda self, sizes: asked.append(dict(sizes)))
    entries = prepare_all(segmenter.plan, samples, ready.audit.facts, CPU, SILENT)
    (sizes,) = asked
    for entry in entries.values():
        held = sum(f.stat().st_size for f in entry.folder.glob("*.b2nd"))
        plain = prod(entry.shape) * 3
        assert held <= sizes[entry.folder.name] <= 1.05 * plain


def test_voxels_of_whole_images_grow_as_the_image_shrinks(segmenter: Run, classifier: Run) -> None:
    assert grid_spacing(segmenter.plan, segmenter.fingerprint) == pytest.approx(segmenter.fingerprint.spacing_median)
    facts = classifier.fingerprint
    half = tuple(n // 2 for n in facts.shape_median)
    smaller = classifier.plan.model_copy(update={"grid": classifier.plan.grid.model_copy(update={"size": half})})
    assert grid_spacing(smaller, facts) == pytest.approx([2 * s for s in facts.spacing_median])
