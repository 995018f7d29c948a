"""Nothing in the package can run code that came as data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}
# It reads the weights of others as tensors alone, in a process of its own that is allowed nothing else.
ALLOWED = {"hounsfield/workflow/_unpickle.py": "torch.load"}


def dangers(text: str) -> list[str]:
    """Unsafe imports and calls in a source text, as "line: what"."""
    found: list[tuple[ast.stmt | ast.expr, str]] = []
    tree = ast.parse(text)
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, f"import {a.name}") for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            found.append((node, f"from {node.module}"))
        elif isinstance(node, ast.Call):
            found += [(node, why) for why in _unsafe_call(node, names)]
    return [f"{node.lineno}: {why}" for node, why in found]


def _imported(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for, so that `from torch import load as l` is seen through."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({a.asname: a.name for a in node.names if a.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def _unsafe_call(node: ast.Call, names: dict[str, str]) -> list[str]:
    written = ast.unparse(node.func)
    first, dot, rest = written.partition(".")
    called = names.get(first, first) + dot + rest
    keywords = {k.arg: k.value for k in node.keywords}

    def says(keyword: str, value: bool) -> bool:
        given = keywords.get(keyword)
        return isinstance(given, ast.Constant) and given.value is value

    found = []
    if called in BUILTINS or called in CALLS:
        found.append(called)
    if called in {"numpy.load", "np.load"} and not says("allow_pickle", False):
        found.append(f"{called} without allow_pickle=False")
    if "shell" in keywords and not says("shell", False):
        found.append(f"{called} with shell")
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_file(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(SRC).as_posix())
    assert [danger for danger in dangers(path.read_text()) if danger.partition(": ")[2] != allowed] == []


@pytest.mark.parametrize("name", ALLOWED)
def test_what_one_file_may_do_it_does_once_safely_and_by_itself(name: str) -> None:
    text = (SRC / name).read_text()
    every = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    calls = [node for node in every if ast.unparse(node.func) == ALLOWED[name]]
    assert [{k.arg: ast.unparse(k.value) for k in call.keywords} for call in calls] == [
        {"map_location": "'cpu'", "weights_only": "True"}
    ]
    module = Path(name).stem
    ways = (f"import {module}", f"{module} import")
    assert not [path for path in SRC.rglob("*.py") if any(way in path.read_text() for way in ways)]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import dill as d",
        "from marshal import loads",
        "def f():\n    import joblib",
        "eval('1')",
        "exec(code)",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=True)",
        "from torch import load\nload(path)",
        "import yaml\nyaml.load(text, Loader=L)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "from numpy import load\nload(path)",
        "import subprocess\nsubprocess.run(line, shell=True)",
    ],
)
def test_a_danger_is_found(text: str) -> None:
    assert len(dangers(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)",
        "import re\nre.compile('a')",
        "import json\njson.load(file)",
    ],
)
def test_what_is_safe_passes(text: str) -> None:
    assert dangers(text) == []
