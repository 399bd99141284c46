"""Try harness in every environment that it is said to work in; ``make matrix`` does, and writes reports/versions.md.

    .venv/bin/nox --list
    .venv/bin/nox -s lowest onnxruntime-1.23.2

A session installs, runs the shipped specs and the tests that depend on versions, notes what came of them, and takes its
environment away again: a build of torch with CUDA needs 6 GiB.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import nox
from nox.command import CommandFailed
from packaging.utils import canonicalize_name

from benchmarks.versions.environments import ENVIRONMENTS, ROOT, Environment, declared
from benchmarks.versions.outcome import Outcome, write_outcomes
from benchmarks.versions.report import REPORT, add

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

TOOLS = ("pytest", "pytest-xdist", "hypothesis", "expecttest", "jsonschema", "scipy")
TESTS = (
    *("api", "blame", "cli", "cli_help", "doctor", "engine_cache", "environment", "exporters_artifacts"),
    *("exporters_sharing", "exporters_speed", "fixes_parity", "fixes_public", "fixes_windows", "model_copies"),
    *("onnx_arrays", "pack", "pack_values"),
    *("recorded", "report_write", "requirements", "runtimes_onnxruntime", "runtimes_promises", "runtimes_tensors"),
    *("runtimes_torchscript", "samples_of_torch", "shipped_specs", "spec_errors", "spec_expression", "spec_read"),
    *("spec_signatures", "check_placement", "check_stages"),
)
BOARD_TESTS = (
    *("compare_inconclusive", "compare_metrics", "compare_pictures", "compare_properties", "compare_rules"),
    *("compare_structure", "diff", "doctor", "environment", "gate", "latency_normalised", "latency_change"),
    *("recorded_hostile", "recorded_without_torch", "report_terminal", "requirements", "serialization"),
    *("spec_discover", "spec_errors", "spec_expand", "spec_known_failures", "spec_listed", "spec_read", "spec_targets"),
)
INSTALLED = """
import json, platform
from importlib.metadata import distributions
found = {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions()}
print(json.dumps([platform.python_version(), found]))
"""
BUILD = ROOT / "build" / "versions"
WITHOUT_TORCH = ("--targets", "*/ort-cpu")
RUN = ("--no-latency", "--format", "json", "--report-dir")


class Trial:
    """One environment as it is tried; ``outcome`` is what is known of it so far."""

    def __init__(self, session: nox.Session, environment: Environment) -> None:
        self._session, self._environment = session, environment
        self._folder = BUILD / environment.name
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self.outcome = Outcome(environment.name, datetime.now(timezone.utc).date().isoformat())
        session.env.update(PIP_NO_CACHE_DIR="1", HARNESS_CACHE=str(BUILD / "cache"))

    def run(self) -> None:
        """Try it, and note what came of it, also where it does not get to its end."""
        try:
            self._on_a_board() if self._environment.board else self._on_a_host()
        except CommandFailed as error:
            trouble = f"could not be tried to the end: {error.reason or 'a command failed'}; the log of nox says more"
            self.outcome = replace(self.outcome, trouble=trouble)
        finally:
            shutil.rmtree(self._session.virtualenv.location, ignore_errors=True)
        write_outcomes(BUILD / f"{self._environment.name}.jsonl", {self._environment.name: self.outcome})
        add({self._environment.name: self.outcome})

    def _on_a_host(self) -> None:
        self._install("-e", ".[cpu]", *TOOLS)
        self._note_installed()
        self.outcome = self.outcome.with_checks(self._verified("python", "specs/"))
        self._test(TESTS)

    def _on_a_board(self) -> None:
        """The bundle is packed, and run for comparison, in nox's own environment: there torch is installed."""
        bundle = self._folder / "bundle"
        self._session.run(
            sys.executable, "-m", "harness", "pack", "specs/", "-o", str(bundle), external=True, silent=True
        )
        host = self._verified(sys.executable, str(bundle), *WITHOUT_TORCH)
        before = self._mib()
        self._install(".[target]")
        note = (
            f"`parity-harness[target]` and all that it needs, without a runtime, take {self._mib() - before:.0f} MiB."
        )
        self.outcome = replace(self.outcome, notes=(note,))
        self._install("onnxruntime", "pytest", "pytest-xdist", "hypothesis")
        self._note_installed()
        board = self._verified("python", str(bundle), *WITHOUT_TORCH)
        self.outcome = self.outcome.with_checks(board).with_comparison(board, host)
        self._test(BOARD_TESTS)

    def _install(self, *what: str) -> None:
        constraints = self._folder / "constraints.txt"
        constraints.write_text(self._environment.constraints(), encoding="utf-8")
        self._session.install("-c", str(constraints), *what)

    def _note_installed(self) -> None:
        told = self._session.run("python", "-c", INSTALLED, silent=True)
        python, found = json.loads(str(told))
        names: list[str] = [canonicalize_name(requirement.name) for requirement in declared()]
        packages = {name: found[name] for name in names if name in found}
        self.outcome = replace(self.outcome, python=python, packages=packages)

    def _verified(self, python: str, what: str, *options: str) -> Path:
        """The report of ``what``, run by ``python``; that a check is otherwise than expected is not the end."""
        folder = self._folder / f"report-{Path(python).name == python}"
        command = (python, "-m", "harness", "run", what, *options, *RUN, str(folder))
        self._session.run(*command, success_codes=[0, 1], external=python == sys.executable)
        return folder / "report.json"

    def _test(self, names: Sequence[str]) -> None:
        junit = self._folder / "tests.xml"
        options = ("-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", f"--junitxml={junit}")
        files = [f"tests/test_{name}.py" for name in names]
        self._session.run("python", "-m", "pytest", *options, *files, success_codes=[0, 1])
        self.outcome = self.outcome.with_tests(junit)

    def _mib(self) -> float:
        files = Path(self._session.virtualenv.location).rglob("*")
        return sum(file.lstat().st_size for file in files if file.is_file() and file.suffix != ".pyc") / 2**20


def session_for(environment: Environment) -> Callable[[nox.Session], None]:
    """The session that tries ``environment``."""

    def session(session: nox.Session) -> None:
        trial = Trial(session, environment)
        trial.run()
        if not trial.outcome.green:
            session.error(f"{environment.name} is not green; {REPORT} says why")

    return session


for each in ENVIRONMENTS:
    nox.session(python=each.python, name=each.name)(session_for(each))
