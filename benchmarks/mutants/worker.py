"""Tries mutants in a copy of the repository: ``python -m benchmarks.mutants.worker``, with that copy as PYTHONPATH.

Reads a request as a line of JSON, answers with one. The libraries are imported once; each request gets a fork, so that
harness and the tests are imported anew, with the mutant in place of its file.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("pytest", "hypothesis", "hypothesis.strategies", "hypothesis.provisional", "_hypothesis_pytestplugin", "syrupy"),
    *("xdist.plugin", "click", "filelock", "jinja2", "junitparser", "packaging.requirements", "pebble", "platformdirs"),
    *(
        "psutil",
        "pydantic",
        "yaml",
        "rich.console",
        "rich.table",
        "rich.progress",
        "tabulate",
        "multiprocessing.forkserver",
    ),
    *("numpy", "ml_dtypes"),
)
SLOW_LIBRARIES = ("torch", "torch.onnx", "onnx", "onnx.reference", "onnxruntime", "onnxscript", "scipy.stats")
"""Imported for the first room whose tests need most of them."""

OURS = ("harness", "tests", "benchmarks")
# A mutant may allocate without end.
_MEMORY = 16 * 2**30


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    for library in LIBRARIES:
        importlib.import_module(library)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run the request's tests, with ``source`` in place of ``file`` if it names one."""
    for library in SLOW_LIBRARIES if request["torch"] else ():
        importlib.import_module(library)
    started = time.monotonic()
    if request["file"] is None:
        outcome, report = _run_tests(request)
    else:
        path = Path(request["file"])
        original, times = path.read_bytes(), path.stat()
        try:
            _forget_compiled(path)
            path.write_text(request["source"], encoding="utf-8")
            outcome, report = _run_tests(request)
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            _forget_compiled(path)
    return {"outcome": outcome, "seconds": round(time.monotonic() - started, 2), **report}


def _forget_compiled(path: Path) -> None:
    """Remove the bytecode of ``path``: Python tells versions by size and second, and mutants are alike in both."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _run_tests(request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    seen, log = Path(request["scratch"], "seen.json"), Path(request["scratch"], "output.txt")
    seen.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _run_in_fork(request, seen, log)
    outcome = _wait(child, request["limit"])
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests started and left
    report = json.loads(seen.read_text(encoding="utf-8")) if seen.exists() else {"passed": 0, "by": ""}
    return outcome, report


def _wait(child: int, limit: float) -> str:
    """``survived`` where all tests passed, ``killed``, or ``timeout``."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "survived" if status == 0 else "killed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _run_in_fork(request: dict[str, Any], seen: Path, log: Path) -> None:
    """Run pytest and end the process with its exit code."""
    os.setsid()
    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, file in ((0, nothing), (1, output), (2, output)):
            os.dup2(file, number)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        import pytest

        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
            f"--basetemp={request['scratch']}/tests",
        ]
        code = int(pytest.main([*options, *request["tests"]], plugins=[_Seen(seen)]))
    except BaseException:  # noqa: BLE001 - it must not return into the loop
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


class _Seen:
    """A pytest plugin that writes down how many tests passed, and which one failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed = 0
        self._by = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count one phase of one test."""
        self._passed += report.when == "call" and report.passed
        if report.failed and not self._by:
            self._by = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed and not self._by:
            self._by = f"{report.nodeid} (cannot be imported)"

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        self._path.write_text(json.dumps({"passed": self._passed, "by": self._by}), encoding="utf-8")


if __name__ == "__main__":
    main()
