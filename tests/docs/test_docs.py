"""The documentation is true: what it shows runs, what it lists exists, and its links lead somewhere.

Fenced blocks say by their second word how they are checked; each page's blocks run in order, in one folder, on small phantoms:

    ```sh test      every command ends well; the `text output` block after it, if any, shows lines that it printed
    ```sh fails     its one command is refused with the line that the `text` block after it shows
    ```python test  runs
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "hounsfield"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HOW_TO = ROOT / "docs" / "how-to"
MAKERS = (HOW_TO / "datasets.md", HOW_TO / "train.md")  # their data and runs are what the other pages work with
VERBS = (
    "demo",
    "fetch",
    "inspect",
    "image",
    "convert",
    "merge",
    "deidentify",
    "plan",
    "pretrain",
    "train",
    "scaling",
    "evaluate",
    "predict",
    "restore",
    "generate",
    "report",
    "doctor",
)
# Enough to run, too little to learn.
SMALLER = ((r"--budget \S+", "--budget 3steps"), (r'budget="[^"]+"', 'budget="3steps"'), (r"\bn=\d+", "n=16"))


@dataclass(frozen=True)
class Block:
    """A fenced block. info: the words behind the fence."""

    page: Path
    line: int
    info: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fences = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    return [Block(page, text[: f.start()].count("\n") + 1, tuple(f[1].split()), f[2]) for f in fences]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# What the pages show, run.


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


def hounsfield(words: list[str]) -> Done:
    """The command line, in this process: importing torch anew would cost seconds."""
    from hounsfield import cli

    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["hounsfield", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
    raise AssertionError("main returned")


def commands(block: Block) -> Iterator[list[str]]:
    text = block.text.replace("\\\n", " ")
    for pattern, smaller in SMALLER:
        text = re.sub(pattern, smaller, text)
    for line in text.splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def execute(words: list[str]) -> Done:
    """One line of a shell block: hounsfield or python -c, perhaps with > FILE."""
    words, target = (words[:-2], Path(words[-1])) if words[-2:-1] == [">"] else (words, None)
    if words[0] == "hounsfield":
        done = hounsfield(words[1:])
    elif words[:2] == ["python", "-c"]:
        done = python(words[2])
    else:
        raise AssertionError(f"{words[0]!r} is no command that the documentation's blocks may test")
    if target is not None:
        target.write_text(done.out)
    return done


def python(code: str) -> Done:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<documentation>", "exec"), {"__name__": "documentation"})
    return Done(0, out.getvalue(), "")


def shape(line: str) -> str:
    """A line of output without its numbers, and without the remarks in brackets that depend on them."""
    plain = re.sub(r"\s+\(.*|\s{2,}(?:patient unknown|only ).*", "", line)
    plain = re.sub(r"\d+(?:[.,]\d+)*%?|n/a", "#", plain)
    return " ".join(plain.replace(" [#, #]", "").split())


def run_page(page: Path) -> None:
    """Every block of the page that says so, in the current folder."""
    found = blocks(page)
    for block, after in zip(found, [*found[1:], None], strict=True):
        kind = block.info[1:2]
        if block.info[:1] == ("python",) and kind == ("test",):
            text = block.text
            for pattern, smaller in SMALLER:
                text = re.sub(pattern, smaller, text)
            python(text)
        elif kind == ("test",):
            done = []
            for words in commands(block):
                done.append(execute(words))
                assert done[-1].code == 0, f"{block}: {shlex.join(words)} ended with {done[-1].code}: {done[-1].err}"
            if after is not None and after.info == ("text", "output"):
                _same_lines(after, "".join(d.out + d.err for d in done))
        elif kind == ("fails",):
            assert after is not None
            assert after.info == ("text",), f"{block}: no line of an error follows"
            (words,) = commands(block)
            refused = execute(words)
            expected = after.text.strip()
            code = expected.split()[0]
            assert refused.code == exit_codes()[code], f"{block}: ended with {refused.code}: {refused.err}"
            assert shape_all(refused.err.splitlines()[-1]) == shape_all(expected), f"{block}: {refused.err}"


def shape_all(line: str) -> str:
    return re.sub(r"\d+(?:[.,]\d+)*", "#", line)


def _same_lines(shown: Block, printed: str) -> None:
    there = {shape(line) for line in printed.splitlines()}
    for line in shown.text.splitlines():
        if line.strip() not in ("", "..."):
            assert shape(line) in there, f"{shown}: {shape(line)!r} is not among\n" + "\n".join(sorted(there))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all pages run, with the data and runs of datasets.md and train.md, and what readers are said to have:
    `scans`, their own dataset, `new-scans` and `unlabelled`. A run knows where its data were, so it cannot be copied."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")  # no line of a table is broken
        from hounsfield.data.phantoms import write_dataset
        from hounsfield.workflow import demo

        patch.setattr(demo, "CASES", 16)
        write_dataset("scans", "segmentation", n=16, seed=5)
        write_dataset("drawn", "generation", n=4, seed=6)
        Path("drawn/images").rename("new-scans")
        shutil.copytree("new-scans", "unlabelled")
        for page in MAKERS:
            run_page(page)
        yield folder


RUNNING = [p for p in PAGES if any(b.info[1:2] in (("test",), ("fails",)) for b in blocks(p))]


@pytest.mark.parametrize("page", [p for p in RUNNING if p not in MAKERS], ids=name)
@pytest.mark.usefixtures("made")
def test_what_a_page_shows_runs(page: Path) -> None:
    run_page(page)


@pytest.mark.parametrize("page", MAKERS, ids=name)
def test_what_the_other_pages_stand_on_runs(page: Path, made: Path) -> None:
    assert page in RUNNING
    assert (made / "runs" / "organs" / "report.html").is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_with_a_command_that_runs(verb: str) -> None:
    shown = [w for b in blocks(HOW_TO / f"{verb}.md") if b.info[1:2] == ("test",) and b.info[0] == "sh" for w in commands(b)]
    assert ["hounsfield", verb] in [words[:2] for words in shown]


# What the pages list, compared.


@cache
def exit_codes() -> dict[str, int]:
    """The exit code of every error code, by the class that the package raises it with."""
    from hounsfield.core import errors

    found: dict[str, set[int]] = {code: set() for code in errors.CODES}
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            kind = getattr(errors, node.func.id, None) if isinstance(node.func, ast.Name) else None
            if isinstance(kind, type) and issubclass(kind, errors.HounsfieldError):
                found[str(node.args[0].value)].add(kind.exit_code)
    several = {code: exits for code, exits in found.items() if len(exits) > 1}
    assert not several, f"codes with more than one exit code: {several}"
    return {code: next(iter(exits), 2) for code, exits in found.items()}


def test_the_table_of_codes_is_the_packages() -> None:
    from hounsfield.core.errors import CODES

    exits = exit_codes()
    rows = [f"| `{code}` | {meaning} | {exits[code]} |" for code, meaning in CODES.items()]
    table = "\n".join(["| code | meaning | exit |", "|---|---|---|", *rows])
    text = (ROOT / "docs" / "interfaces.md").read_text()
    shown = re.search(r"<!-- codes.*? -->\n(.*?)<!-- /codes -->", text, re.S)
    assert shown is not None
    assert shown[1].strip() == table, f"the table must read\n{table}"


def test_the_tree_names_the_folders_that_exist() -> None:
    (tree,) = [b for b in blocks(ROOT / "docs" / "architecture.md") if b.info == ("tree",)]
    first, *lines = tree.text.splitlines()
    assert first.strip() == "src/hounsfield/"
    shown, parents = set(), [""]
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        entry = line.split()[0]
        assert entry.endswith("/")
        assert len(line.split()) > 1, f"{entry}: nothing is said of it"
        parents[depth:] = [parents[depth - 1] + entry]
        shown.add(parents[depth])
    there = {f"{p.relative_to(SRC).as_posix()}/" for p in SRC.rglob("*") if p.is_dir() and any(p.glob("*.py"))}
    assert shown == there


def test_the_tree_names_every_member() -> None:
    from hounsfield.core.registry import Folder
    from hounsfield.data.readers import READERS
    from hounsfield.data.writers import WRITERS
    from hounsfield.explain.methods import METHODS
    from hounsfield.io.formats import FORMATS
    from hounsfield.models import MODELS
    from hounsfield.tasks import TASKS

    (tree,) = [b for b in blocks(ROOT / "docs" / "architecture.md") if b.info == ("tree",)]
    shown = {w[0]: w[2:] for line in tree.text.splitlines() if (w := line.replace(",", "").split())[1:2] == ["members:"]}
    names: dict[str, Folder[Any]] = {
        "readers": READERS,
        "writers": WRITERS,
        "methods": METHODS,
        "formats": FORMATS,
        "models": MODELS,
        "tasks": TASKS,
    }
    assert shown == {f"{folder}/": members.names() for folder, members in names.items()}


def test_every_layout_is_described() -> None:
    from hounsfield.data.readers import READERS

    headings = re.findall(r"^### .*`(\w+)`$", prose(HOW_TO / "datasets.md"), re.M)
    assert sorted(headings) == READERS.names()


def options(verb: str) -> set[str]:
    """Long options of a command."""
    from typer.main import get_command

    from hounsfield.cli import app

    command: Any = get_command(app)
    return {o for p in command.commands[verb].params for o in p.opts if o.startswith("--")} - {"--help"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_page_names_all_its_options(verb: str) -> None:
    text = (HOW_TO / f"{verb}.md").read_text()
    assert options(verb) <= set(re.findall(r"--[a-z][a-z-]*", text))


def test_the_verbs_are_the_commands() -> None:
    from typer.main import get_command

    from hounsfield.cli import app

    command: Any = get_command(app)
    assert sorted(command.commands) == sorted(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_command_is_shown_with_an_option_that_it_lacks(page: Path) -> None:
    shown = [line for b in blocks(page) if b.info[:1] == ("sh",) for line in b.text.replace("\\\n", " ").splitlines()]
    shown += re.findall(r"`(hounsfield [^`]+)`", prose(page))
    for line in shown:
        for verb, rest in re.findall(r"\bhounsfield ([a-z]+)\b(.*)", line.partition("#")[0]):
            if verb in VERBS:
                assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) <= options(verb) | {"--help"}, line


FILES = {
    "plan.json": "plan.json",
    "fingerprint.json": "fingerprint.json",
    "split.json": "split.json",
    "run.json": "run.json",
    "environment.json": "environment.json",
    "members/FOLD-SEED/metrics.jsonl": "members/0-0/metrics.jsonl",
}


@pytest.mark.parametrize("title", FILES)
def test_the_keys_of_a_file_are_those_listed(title: str, made: Path) -> None:
    text = (ROOT / "docs" / "interfaces.md").read_text()
    section = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##)", text, re.M | re.S)
    assert section is not None
    listed = {key for row in re.findall(r"^\|(.+?)\|", section[1], re.M) for key in re.findall(r"`(\w+)`", row)}
    first = (made / "runs" / "organs" / FILES[title]).read_text()
    written = json.loads(first.splitlines()[0] if title.endswith(".jsonl") else first)
    assert listed == set(written)


def test_the_keys_of_an_evaluation_are_those_listed(made: Path) -> None:
    text = (ROOT / "docs" / "interfaces.md").read_text()
    shown = next(json.loads(b.text) for b in blocks(ROOT / "docs" / "interfaces.md") if b.info == ("json",))
    for run in ("organs", "liver"):
        written = json.loads((made / "runs" / run / "evaluation" / "test.json").read_text())
        assert set(written) - {"cases"} == set(shown)
        assert set(written["metrics"][written["headline"]]) == set(shown["metrics"]["auroc"])
        row = next(r for r in text.splitlines() if r.startswith(f"| {written['task']} | `{written['headline']}`"))
        listed = set(re.findall(r"`([\w<>]+)`", row))
        classes = [c["name"] for c in json.loads((made / "runs" / run / "plan.json").read_text())["classes"]]
        assert {m.replace("<class>", c) for m in listed for c in classes} == set(written["metrics"])


def test_the_version_is_the_packages() -> None:
    from hounsfield import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# Links, hosts, paths, pictures.


def test_an_output_that_differs_is_seen() -> None:
    shown = Block(ROOT / "README.md", 1, ("text", "output"), "val: dice 0.81 [0.7, 0.9] on 24 cases (patient unknown)\n...\n")
    _same_lines(shown, "x\nval: dice 0.073 [0.068, 0.078] on 3 cases\n")
    with pytest.raises(AssertionError, match="is not among"):
        _same_lines(shown, "val: iou 0.073 [0.068, 0.078] on 3 cases\n")
