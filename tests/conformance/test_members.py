"""Every member of every members-only folder keeps the promises of its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import format_checks, method_checks, model_checks, reader_checks, task_checks, writer_checks

from hounsfield.data.readers import READERS
from hounsfield.data.writers import WRITERS
from hounsfield.explain.methods import METHODS
from hounsfield.io.formats import FORMATS
from hounsfield.models import MODELS
from hounsfield.tasks import TASKS

FOLDERS = (
    (MODELS, model_checks.CHECKS),
    (FORMATS, format_checks.CHECKS),
    (READERS, reader_checks.CHECKS),
    (WRITERS, writer_checks.CHECKS),
    (METHODS, method_checks.CHECKS),
    (TASKS, task_checks.CHECKS),
)
EVERY = [
    pytest.param(folder, name, check, id=f"{folder.kind} {name}: {check.__name__.removeprefix('check_').replace('_', ' ')}")
    for folder, checks in FOLDERS
    for name in folder.names()
    for check in checks
]


@pytest.mark.parametrize(("folder", "name", "check"), EVERY)
def test_member(folder: Any, name: str, check: Callable[[Any, Path], None], tmp_path: Path) -> None:
    check(folder.load(name), tmp_path)
