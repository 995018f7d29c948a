"""Importing the package, or asking for help, loads none of the heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("torch", "numpy", "scipy", "pydantic", "matplotlib", "nibabel", "pydicom", "PIL", "blosc2")


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after `code` in a fresh interpreter (which a .pth file may have filled beforehand)."""
    measured = f"""
import sys
before = set(sys.modules)
try:
    exec({code!r})
except SystemExit:
    pass
import json
print("\\n" + json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}})))
"""
    done = subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import hounsfield") & set(HEAVY)


def test_help_loads_no_torch() -> None:
    loaded = loaded_by("import sys; sys.argv = ['hounsfield', '--help']; from hounsfield.cli import main; main()")
    assert "hounsfield" in loaded
    assert "torch" not in loaded


def test_what_is_loaded_is_seen() -> None:
    assert "numpy" in loaded_by("from hounsfield import Geometry")
