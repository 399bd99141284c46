"""YAML specs to cases: plain data that keep their location in the file. torch is not imported.

This module itself says which files are specs. It loads nothing else of the package: a run asks it which libraries its
workers need, before it reads any spec.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

TARGETS_FILE = "targets.yaml"
KNOWN_FAILURES_FILE = "known-failures.yaml"
SKIPPED_FOLDERS = ("node_modules", "site-packages")

# The version of the format, as a top-level key: an indented one belongs to something else.
_VERSION_KEY = re.compile(rb"^[\"']?harness[\"']?[ \t]*:[ \t]*\d+[ \t]*(#.*)?\r?$", re.MULTILINE)
_SEARCHED_BYTES = 65_536


def is_spec_file(path: Path) -> bool:
    """True if ``path`` is a file with a top-level key ``harness:``, as a spec has it and other YAML has not."""
    try:
        if not path.is_file():  # opening a pipe would block until somebody writes to it
            return False
        with path.open("rb") as file:
            return _VERSION_KEY.search(file.read(_SEARCHED_BYTES)) is not None
    except OSError:
        return False  # not an error here: the file may not be a spec at all


def has_specs(paths: Iterable[Path]) -> bool:
    """True if there is any spec under ``paths``. Only looks at names; nothing is read."""
    return any(has_spec_name(path.name) or any(map(has_spec_name, names_below(path))) for path in paths)


def has_spec_name(name: str) -> bool:
    """True if a file called ``name`` is taken for a spec where a folder is searched."""
    return name.endswith(".yaml") and name not in {TARGETS_FILE, KNOWN_FAILURES_FILE}


def names_below(folder: Path | str) -> Iterator[str]:
    """The names of the files in ``folder`` and in the folders below it, as :func:`walk` finds them."""
    for _, _, names in walk(folder):
        yield from names


def walk(
    folder: Path | str, onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As :func:`os.walk`, without the folders below ``folder`` that other tools fill. ``folder`` itself may be one."""
    for parent, folders, names in os.walk(folder, onerror=onerror):
        folders[:] = [name for name in folders if not _is_of_another_tool(parent, name)]
        yield parent, folders, names


def _is_of_another_tool(parent: str, name: str) -> bool:
    return name.startswith(".") or name in SKIPPED_FOLDERS or os.path.lexists(f"{parent}/{name}/pyvenv.cfg")
