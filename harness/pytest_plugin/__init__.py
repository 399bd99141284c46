"""``pytest specs/``: every check is a test, with a name that stays the same from run to run.

pytest loads this at every start, in every project that has harness installed; so nothing is imported here that is not
needed to say that a file is no spec. Only a YAML file with a key ``harness:`` of its own is collected; where pytest's
configuration says ``harness_collect = false``, or with ``-p no:harness``, not even those.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.search_path import Installed

if TYPE_CHECKING:
    from harness.pytest_plugin.items import SpecFile

# The format's version, as a key of the file itself: an indented one belongs to something else.
SPEC = re.compile(rb"^[\"']?harness[\"']?[ \t]*:[ \t]*\d+[ \t]*(#.*)?\r?$", re.MULTILINE)
NO_SPECS = {"targets.yaml", "known-failures.yaml"}
FIRST = 65_536


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be said on the command line, and in the configuration."""
    group = parser.getgroup("harness", "parity of exported models")
    group.addoption(
        "--harness-targets",
        action="append",
        metavar="LIST",
        help="Targets, sets of targets.yaml or globs, for the checks of harness's specs.",
    )
    group.addoption(
        "--harness-allow-import", action="store_true", help="Let specs name a factory: it runs the code that it names."
    )
    group.addoption(
        "--harness-timeout",
        type=float,
        metavar="S",
        help="Seconds that a check of a spec may take. [default: 120, and 60 more for each GiB of the model]",
    )
    parser.addini("harness_collect", "Collect harness's specs.", type="bool", default=True)
    parser.addini("harness_targets", "As --harness-targets.", type="args", default=[])
    parser.addini("harness_allow_import", "As --harness-allow-import.", type="bool", default=False)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    """The checks of a spec; None for every other file."""
    if file_path.suffix != ".yaml" or file_path.name in NO_SPECS or not parent.config.getini("harness_collect"):
        return None
    if not _is_spec(file_path):
        return None
    with Installed():
        from harness.pytest_plugin.items import SpecFile

    collected: SpecFile = SpecFile.from_parent(parent, path=file_path)
    return collected


def _is_spec(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe would wait for whoever writes to it
            return False
        with path.open("rb") as file:
            return SPEC.search(file.read(FIRST)) is not None
    except OSError:
        return False  # not for harness to complain of: it may be no spec at all
