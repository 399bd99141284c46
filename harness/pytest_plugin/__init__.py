"""``pytest specs/``: every check is a test, whose name stays the same from run to run.

pytest loads this module at every start, in every project that has harness installed. So nothing is imported here that
is not needed to see that a file is not a spec. Only YAML files with a top-level key ``harness:`` are collected, and not
even those if pytest's configuration has ``harness_collect = false``, or with ``-p no:harness``.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.search_path import InstalledFirst

if TYPE_CHECKING:
    from harness.pytest_plugin.items import SpecFile

_NOT_SPECS = {"targets.yaml", "known-failures.yaml"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line and of the configuration."""
    group = parser.getgroup("harness", "parity of exported models")
    group.addoption(
        "--harness-targets",
        action="append",
        metavar="LIST",
        help="Targets, sets of targets.yaml or globs, for the checks of harness's specs.",
    )
    group.addoption(
        "--harness-allow-import",
        action="store_true",
        help="Allow specs with a factory. This runs the code that they name.",
    )
    group.addoption("--harness-strict", action="store_true", help="Fail checks of specs whose pass is inconclusive.")
    group.addoption(
        "--harness-timeout",
        type=_seconds,
        metavar="S",
        help="Seconds per check of a spec. [default: 120, and 60 more for each GiB of the model]",
    )
    parser.addini("harness_collect", "Collect harness's specs.", type="bool", default=True)
    parser.addini("harness_targets", "As --harness-targets.", type="args", default=[])
    parser.addini("harness_allow_import", "As --harness-allow-import.", type="bool", default=False)
    parser.addini("harness_strict", "As --harness-strict.", type="bool", default=False)


def _seconds(text: str) -> float:
    """The seconds of ``--harness-timeout``. Raises ``ArgumentTypeError``, which pytest reports in one line."""
    from harness.check.settings import LARGEST

    with suppress(ValueError):
        if 0 < (seconds := float(text)) <= LARGEST:
            return seconds
    raise ArgumentTypeError(f"a number above 0 and of at most {LARGEST:,.0f} is expected, not {text}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    """Collect the checks of a spec; None for every other file."""
    if file_path.suffix != ".yaml" or file_path.name in _NOT_SPECS or not parent.config.getini("harness_collect"):
        return None
    with InstalledFirst():
        from harness.spec import is_spec_file

        if not is_spec_file(file_path):
            return None
        from harness.pytest_plugin.items import SpecFile

    collected: SpecFile = SpecFile.from_parent(parent, path=file_path)
    return collected
