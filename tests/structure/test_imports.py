"""Imports run downward, siblings never import each other, what is private stays in its folder, and no circle exists."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

# A folder may import itself and what stands in a line below its own.
RANKS = (
    ("__main__",),
    ("cli",),
    ("serve", "scale"),
    ("workflow",),
    ("plan",),
    ("tasks",),
    ("data", "models"),
    ("io", "metrics", "explain"),
    ("core",),
)
RANK = {folder: rank for rank, folders in enumerate(RANKS) for folder in folders}
MEMBERS_ONLY = ("tasks", "models", "data.readers", "data.writers", "explain.methods", "io.formats")

Imports = Mapping[str, set[str]]  # module -> modules of the package that it imports, wherever in the file


def imports_of(sources: Mapping[str, str]) -> Imports:
    """sources: dotted module name -> text. Every import counts: at the top, in functions, under TYPE_CHECKING."""
    found: dict[str, set[str]] = {name: set() for name in sources}
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name.split(".")[0] == "hounsfield"}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import, line {node.lineno}"
                if node.module and node.module.split(".")[0] == "hounsfield":
                    whole = {f"{node.module}.{alias.name}" for alias in node.names}
                    found[name] |= {full if full in sources else node.module for full in whole}
        # Whoever asks the package for its version gets no module of it.
        found[name] -= {name, "hounsfield"}
    return found


def folder_of(module: str) -> str:
    return module.split(".")[1]


def upward(imports: Imports) -> list[str]:
    """Imports that go up, or aside."""
    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if module != "hounsfield"
        and folder_of(module) != folder_of(other)
        and RANK[folder_of(other)] <= RANK[folder_of(module)]
    ]


def member_of(module: str) -> str | None:
    """The members-only folder in which `module` is a member, not a shared part."""
    parent, _, name = module.removeprefix("hounsfield.").rpartition(".")
    return parent if parent in MEMBERS_ONLY and not name.startswith("_") and name != "parts" else None


def between_members(imports: Imports) -> list[str]:
    """Imports of a member by another, or by a part that members share."""
    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if (home := member_of(other)) and module.startswith(f"hounsfield.{home}.")
    ]


def private(sources: Mapping[str, str]) -> list[str]:
    """Imports of what starts with one underscore; a module may import such a module of its own folder, but no such name."""
    found = []
    for module, text in sorted(sources.items()):
        home = module if any(other.startswith(f"{module}.") for other in sources) else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                for name in (origin + alias.name for alias in node.names):
                    hidden = [part for part in name.split(".") if part.startswith("_") and not part.startswith("__")]
                    near = f"{home}.{hidden[0]}" if hidden else ""
                    if hidden and not (len(hidden) == 1 and near in sources and f"{name}.".startswith(f"{near}.")):
                        found.append(f"{module} imports {name}")
    return found


def circle(imports: Imports) -> list[str]:
    """The modules of one import circle, or []."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def sources() -> dict[str, str]:
    texts = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        texts[".".join(p for p in parts if p != "__init__")] = path.read_text()
    return texts


def test_every_folder_has_a_rank() -> None:
    unknown = {folder_of(name) for name in sources() if name.count(".")} - set(RANK)
    assert not unknown, f"no rank in the order of imports: {unknown}"


def test_imports_run_downward() -> None:
    assert upward(imports_of(sources())) == []


def test_members_do_not_import_each_other() -> None:
    assert between_members(imports_of(sources())) == []


def test_what_is_private_stays_in_its_folder() -> None:
    assert private(sources()) == []


def test_no_circle() -> None:
    assert circle(imports_of(sources())) == []


def made_up(**modules: str) -> dict[str, str]:
    return {f"hounsfield.{name.replace('__', '.')}": text for name, text in modules.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import hounsfield.data.cache",
        "from hounsfield.data import cache",
        "from hounsfield.data.cache import Cache",
        "def f():\n    from hounsfield.data.cache import Cache",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hounsfield.data import cache",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(text: str) -> None:
    imports = imports_of(made_up(core__image=text, data__cache="", data=""))
    assert upward(imports) == ["hounsfield.core.image imports hounsfield.data.cache"]
    assert upward(imports_of(made_up(workflow__train=text, data__cache="", data=""))) == []


def test_folders_of_one_rank_are_strangers() -> None:
    text = "from hounsfield.models import unet"
    assert upward(imports_of(made_up(data__loader=text, models__unet="", models="")))


def test_a_member_that_is_imported_by_its_neighbour_or_their_parts_is_found() -> None:
    text = "from hounsfield.models.unet import UNet"

    def found(**modules: str) -> list[str]:
        return between_members(imports_of(made_up(models__unet="", **modules)))

    assert found(models__resnet=text)
    assert found(models__parts__blocks=text)
    assert not found(plan__rules=text)
    assert not between_members(imports_of(made_up(models__unet="from hounsfield.models.parts import x", models__parts__x="")))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from hounsfield.io.formats._png import chunk", "hounsfield.io.formats._png.chunk"),
        ("from hounsfield.io.formats import _png", "hounsfield.io.formats._png"),
        ("def f():\n    import hounsfield.io.formats._png", "hounsfield.io.formats._png"),
        ("from hounsfield.io.limits import _most", "hounsfield.io.limits._most"),
        ("from hounsfield.data._canvas import _draw", "hounsfield.data._canvas._draw"),
        ("from torch.nn.modules import _functions", "torch.nn.modules._functions"),
    ],
)
def test_what_is_private_is_found_from_outside(text: str, name: str) -> None:
    around = {"data": "", "data___canvas": "", "io": "", "io__limits": "", "io__formats": "", "io__formats___png": ""}
    assert private(made_up(**around, data__phantoms=text)) == [f"hounsfield.data.phantoms imports {name}"]


def test_what_is_private_serves_its_own_folder() -> None:
    text = "from __future__ import annotations\nfrom hounsfield import __version__\n"
    folder = {"data___canvas": "", "data__readers": ""}
    for inside in ("from hounsfield.data._canvas import Canvas", "from hounsfield.data import _canvas as canvas"):
        assert private(made_up(**folder, data=text + inside, data__phantoms=text + inside)) == []
        assert len(private(made_up(**folder, data="", data__readers__images=text + inside))) == 1


def test_a_circle_is_found() -> None:
    imports = imports_of(made_up(core__a="import hounsfield.core.b", core__b="def f():\n    import hounsfield.core.a"))
    assert set(circle(imports)) == {"hounsfield.core.a", "hounsfield.core.b"}


def test_every_members_only_folder_exists() -> None:
    assert {f"hounsfield.{folder}" for folder in MEMBERS_ONLY} <= set(sources())
