"""Read a YAML file as a tree of nodes with their locations.

Some things that YAML allows are refused in a spec, each in one line: a repeated key, a tag that runs code, an alias
inside its own anchor, aliases that expand without bound, a second document, and excessive nesting or size. Merge keys
(``<<``) are refused too: YAML 1.2 has none, ``defaults`` hold what cases share, and a plain alias can repeat any whole
value.
"""

from __future__ import annotations

import re
import stat
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from harness.errors import Location, Problem, SpecError, escape_path
from harness.spec.yaml.tree import MAX_DEPTH, UNPRINTABLE, Builder, Node

MAX_FILE_BYTES = 4 * 2**20
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DIRECTIVES = re.compile(r"^%", re.MULTILINE)
MAX_DIRECTIVES = 16


def read(path: Path, repeated_keys: list[Problem] | None = None) -> Node:
    """The one document in the file, as by :func:`parse`; also raises :class:`SpecError` if the file cannot be read."""
    where = Location(escape_path(path))
    return parse(_read_text(path, where), where.file, repeated_keys)


def parse(text: str, file: str, repeated_keys: list[Problem] | None = None) -> Node:
    """The one document in ``text``, null if there is none; ``file`` is the file name in problems.

    If ``repeated_keys`` is given, repeated keys are appended to it and the first value of each is kept, so that the
    caller can report everything else that is wrong. Raises :class:`SpecError` with all other problems.
    """
    if unprintable := UNPRINTABLE.search(text):
        raise SpecError([_unprintable_problem(text, unprintable.start(), file)])
    directives = list(islice(DIRECTIVES.finditer(text), MAX_DIRECTIVES + 1))
    if len(directives) > MAX_DIRECTIVES:
        # The parser compares each directive with all others before it emits anything.
        where = Location(file, text.count("\n", 0, directives[-1].start()) + 1)
        raise SpecError([Problem(where, "too many lines that begin with %", "remove them; a spec needs none")])
    builder = Builder(file)
    try:
        for event in yaml.parse(text, Loader=LOADER):
            builder.add_event(event)
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_syntax_problem(error, text, file))
    if builder.problems or (builder.repeated_keys and repeated_keys is None):
        raise SpecError([*builder.problems, *builder.repeated_keys])
    if repeated_keys is not None:
        repeated_keys += builder.repeated_keys
    return builder.root or Node(Location(file), None)


def _read_text(path: Path, where: Location) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SpecError([Problem(where, "not a regular file", "a spec is YAML text in a file")])
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError([Problem(where, f"cannot be read: {reason}", "name a readable file")]) from error
    if len(raw) > MAX_FILE_BYTES:
        remedy = "split it, and generate large tensors with `fill`"
        raise SpecError([Problem(where, f"larger than {MAX_FILE_BYTES // 2**20} MiB", remedy)])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        location = Location(where.file, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise SpecError([Problem(location, "not UTF-8 text", "a spec is YAML, saved as UTF-8")]) from error


def _unprintable_problem(text: str, index: int, file: str) -> Problem:
    location = Location(file, text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))
    return Problem(location, f"the control character U+{ord(text[index]):04X}", "a spec is YAML text; remove it")


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """PyYAML's error; for a bracket or quote that is never closed, at the place where it was opened."""
    opened = error.context_mark if "flow" in (error.context or "") or "quoted" in (error.context or "") else None
    mark = opened or error.problem_mark or error.context_mark
    location = Location(file) if mark is None else Location(file, mark.line + 1, mark.column + 1)
    context = f"{error.context}: " if error.context else ""
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return Problem(location, "not YAML: a tab", "indent with spaces")
    if "nesting depth" in (error.problem or ""):  # the parser of PyYAML 6.0.4 and later has a limit of its own
        return Problem(location, f"nested more than {MAX_DEPTH} levels deep", "nest less; no spec needs that")
    remedy = "check the indentation (spaces, no tabs), brackets and quotes"
    return Problem(location, f"not YAML: {context}{error.problem}", remedy)
