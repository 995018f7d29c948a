"""The notebook runs from top to bottom and shows what it promises, and is committed without outputs."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image as Pillow

PATH = Path(__file__).parents[2] / "notebooks" / "first_steps.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook after a run of its own, and the folder where it worked."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        notebook = nbformat.read(PATH, as_version=4)  # type: ignore[no-untyped-call]
        # Enough to run, too little to learn.
        for cell in notebook.cells:
            cell.source = cell.source.replace("60steps", "6steps").replace("n=40", "n=20")
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook, next(folder.glob("first-steps-*"))


def outputs(notebook: Any, containing: str) -> list[Any]:
    return next(list(cell.outputs) for cell in notebook.cells if cell.cell_type == "code" and containing in cell.source)


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(PATH, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert PATH.stat().st_size < 20_000


def test_images_show_themselves(executed: tuple[Any, Path]) -> None:
    notebook, _ = executed
    for cell in ("\nimage", "\nprediction"):
        shown = [o for o in outputs(notebook, cell) if o.output_type == "execute_result"]
        with Pillow.open(io.BytesIO(base64.b64decode(shown[-1].data["image/png"]))) as picture:
            assert picture.size == (96, 96)


def test_it_prints_the_figures_of_the_run(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    text = "".join(o.text for o in outputs(notebook, "stored") if o.output_type == "stream")
    assert "test, used for report" in text
    assert "val, used for selection" in text
    dice = json.loads((folder / "run" / "evaluation" / "test.json").read_text())["metrics"]["dice"]
    assert f"{dice['value']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}]" in text
    assert (folder / "run" / "report.html").is_file()


def test_it_shows_the_inspection(executed: tuple[Any, Path]) -> None:
    shown = json.dumps(outputs(executed[0], "inspect.show"))
    assert "20 cases of CT phantoms" in shown
    assert "with liver" in shown
