"""YAML that holds data and nothing else: no tag makes an object, no key stands twice, no alias makes a bomb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError

LARGEST = 16 << 20  # bytes of a file


def load_yaml(file: Path, code: str) -> Any:
    """What the file holds, in Python's plain types. code: of the error for what cannot be read as YAML.

    Raises InputError NOT_FOUND, TOO_LARGE, UNSAFE_FILE for a tag that names a type of a program, and `code`.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses aliases, which can make little text into much, and keys that stand twice, of which YAML keeps the last."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.constructor.ConstructorError(None, None, "an alias (*name)", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.nodes.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key.start_mark)
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        size = file.stat().st_size
        if size > LARGEST:
            raise InputError(
                "TOO_LARGE", file, found=f"{size} bytes of YAML", expected=f"at most {LARGEST}", fix="give the right file"
            )
        return Loader(file.read_text(encoding="utf-8-sig")).get_single_data()
    except OSError as error:
        raise InputError(
            "NOT_FOUND", file, found=(error.strerror or "no access").lower(), expected="a YAML file", fix="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(code, file, found="bytes that are not UTF-8", expected="YAML text", fix="save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f" in line {line + 1}"
        what = getattr(error, "problem", None) or type(error).__name__
        if "could not determine a constructor" in what:
            tag = what.rpartition(" ")[2]
            raise InputError(
                "UNSAFE_FILE",
                file,
                found=f"the tag {tag}{at}, which asks for an object of a program",
                expected="plain text, numbers, lists and mappings",
                fix="remove the tag",
            ) from error
        raise InputError(code, file, found=f"no YAML ({what}{at})", expected="plain YAML", fix="mend that line") from error
