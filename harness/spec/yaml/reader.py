"""A YAML file -> a tree of nodes that remember their places.

What YAML allows and a spec must not is refused here, each in one line: a repeated key, a tag that
runs code, an alias inside its own anchor, aliases that explode, a second document, nesting or size
beyond any sense. Merge keys (``<<``) are refused too: YAML 1.2 has none, ``defaults`` say what
cases share, and a plain alias may stand for any whole value.
"""

from __future__ import annotations

import re
import stat
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from harness.errors import Location, Problem, SpecError, told
from harness.spec.yaml.tree import DEEPEST, UNPRINTABLE, Builder, Node

LARGEST_FILE = 4 * 2**20

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DIRECTIVES = re.compile(r"^%", re.MULTILINE)
MOST_DIRECTIVES = 16


def read(path: Path, slips: list[Problem] | None = None) -> Node:
    """The one document in the file: :func:`parse`; a file that cannot be read is a :class:`SpecError` too."""
    where = Location(told(path))
    return parse(_text(path, where), where.file, slips)


def parse(text: str, file: str, slips: list[Problem] | None = None) -> Node:
    """The one document in ``text``, null where there is none; ``file`` is the name that its problems are given under.

    A repeated key goes to ``slips``, where they are given, and the first of its values is kept: so the reader can tell
    what else is wrong. Raises :class:`SpecError` with every other problem that the reading shows.
    """
    if found := UNPRINTABLE.search(text):
        raise SpecError([_unprintable(text, found.start(), file)])
    directives = list(islice(DIRECTIVES.finditer(text), MOST_DIRECTIVES + 1))
    if len(directives) > MOST_DIRECTIVES:
        # The parser holds each against all others before it says anything.
        where = Location(file, text.count("\n", 0, directives[-1].start()) + 1)
        raise SpecError([Problem(where, "too many lines that begin with %", "a spec needs none of them")])
    builder = Builder(file)
    try:
        for event in yaml.parse(text, Loader=LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_syntax(error, text, file))
    if builder.problems or (builder.slips and slips is None):
        raise SpecError([*builder.problems, *builder.slips])
    if slips is not None:
        slips += builder.slips
    return builder.root or Node(Location(file), None)


def _text(path: Path, where: Location) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SpecError([Problem(where, "not a regular file", "a spec is YAML text in a file")])
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise SpecError([Problem(where, f"cannot be read: {said}", "name a file that can")]) from error
    if len(raw) > LARGEST_FILE:
        right = "split it, and generate large tensors with `fill`"
        raise SpecError([Problem(where, f"larger than {LARGEST_FILE // 2**20} MiB", right)])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = Location(where.file, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise SpecError([Problem(place, "not UTF-8 text", "a spec is YAML, saved as UTF-8")]) from error


def _unprintable(text: str, at: int, file: str) -> Problem:
    place = Location(file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
    return Problem(place, f"the control character U+{ord(text[at]):04X}", "a spec is YAML text; remove it")


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """PyYAML's objection; where something was never closed, at the place where it was opened."""
    opened = error.context_mark if "flow" in (error.context or "") or "quoted" in (error.context or "") else None
    mark = opened or error.problem_mark or error.context_mark
    place = Location(file) if mark is None else Location(file, mark.line + 1, mark.column + 1)
    context = f"{error.context}: " if error.context else ""
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return Problem(place, "not YAML: a tab", "indent with spaces")
    if "nesting depth" in (error.problem or ""):  # the parser of PyYAML 6.0.4 and later has a limit of its own
        return Problem(place, f"nested more than {DEEPEST} deep", "no spec needs that")
    right = "mind the indentation (spaces, no tabs), brackets and quotes"
    return Problem(place, f"not YAML: {context}{error.problem}", right)
