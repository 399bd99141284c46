"""YAML specs to cases: plain data that keep their location in the file. torch is not imported."""

from __future__ import annotations

import re
from pathlib import Path

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
