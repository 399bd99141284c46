"""Shared fixtures: the command line in this process, on workers that stay warm between tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from harness.cli import main
from harness.engine.processes.fork_server import start_server
from tests.running import without_progress

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No deadline: a busy machine is no failure. The gate repeats its draws; --hypothesis-profile=explore draws new ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("gate", settings.get_profile("explore"), derandomize=True)
settings.load_profile("gate")


@dataclass(frozen=True)
class Ran:
    """One call of the command line: its exit code, its output, and its report (empty if it wrote none).

    ``err`` is standard error without the lines that say how far a run is; ``raw_err`` has them.
    """

    code: int
    out: str
    err: str
    report: dict[str, Any]
    raw_err: str = ""

    @property
    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The results by case and target."""
        return {(row["case"], row["target"]): row for row in self.report["results"]}

    @property
    def only(self) -> dict[str, Any]:
        """The one result."""
        (row,) = self.report["results"]
        assert isinstance(row, dict)
        return row


Call = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Seed torch, so that results do not depend on the order of tests. Does not import torch."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _same_directory() -> Iterator[None]:
    """Return to the directory of the project: a function that is made for a process of its own may have left it."""
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless browser; its tests are skipped if none is installed."""
    from tests.browser import chromium

    with chromium() as headless:
        yield headless


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a separate cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture(autouse=True, scope="session")
def _signals_as_a_terminal_leaves_them() -> None:
    """Restore the default signal handlers. Background jobs and nohup ignore some, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def harness(here: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """``harness(*arguments)``: run the command line in the empty folder."""
    # A process has one fork server: load torch even if the first test does not need it.
    start_server(torch=find_spec("torch") is not None)

    def call(*arguments: str) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        printed = capfd.readouterr()
        path = here / "reports" / "latest" / "report.json"
        assert isinstance(exit_info.value.code, int)
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return Ran(exit_info.value.code, printed.out, without_progress(printed.err), report, printed.err)

    return call


@pytest.fixture
def spec(here: Path) -> Callable[[str, str], Path]:
    """``spec(name, text)``: write a spec into ``specs/`` and return its path."""

    def write(name: str, text: str) -> Path:
        path = here / "specs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
