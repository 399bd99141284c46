"""Values of options that several commands read: shapes, arguments, a tolerance, and the name of a callable.

What is wrong is added to a list of problems, so that a command tells all of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import SpecError

NEITHER = "neither a model file nor a callable; name a model file, path/to/file.py:callable or package.module:callable"


def read_shapes(texts: Sequence[str], problems: list[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of ``--shape`` by name. Texts that are none are added to ``problems``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        if not (name and equals and re.fullmatch(r"([0-9]{1,9}(,[0-9]{1,9})*)?", sizes)):
            problems.append(f"--shape {text}: not a shape; write NAME=1,3,224,224")
        else:
            shapes[name] = tuple(int(size) for size in sizes.split(",") if size)
    return shapes


def read_arguments(text: str | None, problems: list[str]) -> dict[str, Any]:
    """The mapping of ``--args``. A text that is none is added to ``problems``."""
    arguments = read_yaml("--args", text, problems)
    if arguments is not None and not isinstance(arguments, dict):
        problems.append(f"--args {text}: not a mapping; write '{{name: value}}'")
        return {}
    return arguments or {}


def is_callable_name(text: str) -> bool:
    """True if ``text`` has the form of the name of a callable."""
    return re.fullmatch(r".+:[A-Za-z_]\w*", text) is not None


def read_tolerance(text: str | None, problems: list[str], check: Callable[[Any], Any] | None = None) -> Any:
    """The rule of ``--tolerance`` as data. One that is none, or that ``check`` refuses, is added to ``problems``."""
    from harness.spec.language.tolerances import parse_tolerance

    value = read_yaml("--tolerance", text, problems)
    if value is not None:
        try:
            rule = parse_tolerance(value)
            if check is not None:
                check(rule)
        except ValueError as error:
            problems.append(f"--tolerance {text}: {error}")
    return value


def read_yaml(option: str, text: str | None, problems: list[str]) -> Any:
    """The value of ``option`` in a spec's YAML, None if it is not given. What is none is added to ``problems``."""
    from harness.spec.yaml import parse

    try:
        return None if text is None else parse(text, option).plain()
    except SpecError:
        problems.append(f"{option} {text}: not YAML; write it as in a spec")
        return None
