"""A stopped run keeps its results and leaves no process or file behind, however it is stopped."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine.job import source_files, sources_digest
from tests.conftest import Call
from tests.running import Running, alive, await_, differences, report_in

WAITING = """
harness: 1
factory: hostile:Wait
cases:
  - {name: waiting, inputs: {x: {values: [1.0, -2.0]}}}
"""
GOOD = """
harness: 1
layer: LeakyReLU
cases:
  - {name: good, matrix: {args.negative_slope: [0.1, 0.2, 0.3, 0.4, 0.5]}, inputs: {x: {shape: [2, 3]}}}
  - {name: refused, args: {negative_slope: 1}, inputs: {x: {values: [1.0, -2.0]}}}
"""
ON = ("--allow-import", "--no-latency", "--targets", "script/torch-cpu,trace/torch-cpu", "-j", "2")
OTHERS = 12
SOON = 15.0
"""Seconds that a run may take to stop on a busy machine; on an idle one it takes one second."""


@pytest.fixture
def temporary(harness: Call, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for temporary files. It contains a socket, and socket paths must be short.

    ``harness`` comes first: its fork server, which outlives the test, must not use this folder.
    """
    with tempfile.TemporaryDirectory(prefix="h-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def specs(here: Path, temporary: Path, spec: Callable[[str, str], Path]) -> Path:
    """One case that waits for the file ``go``, and others."""
    # An existing cache: only what is needed is loaded.
    (here / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "hostile.py", here / "hostile.py")
    spec("a-waiting.yaml", WAITING)
    spec("good.yaml", GOOD)
    return here


def test_ctrl_c_writes_the_results_so_far(specs: Path) -> None:
    run = Running(specs, "run", "specs", *ON)
    run.until(lambda: (specs / "reached").exists() and len(run.journal()) == OTHERS)
    run.interrupt()
    code, out, err = run.end()
    assert (code, err) == (130, "")
    assert list(Path(os.environ["TMPDIR"]).iterdir()) == []
    report = report_in(specs / "reports/latest")
    assert report["run"]["interrupted"] is True
    assert len(report["results"]) == report["summary"]["checks"] == OTHERS
    assert "interrupted" in out
    assert run.journal(), "there is nothing to resume"


def test_ctrl_c_does_not_wait_for_a_check_that_hangs(specs: Path) -> None:
    (specs / "specs/a-waiting.yaml").write_text(WAITING.replace("Wait", "Stubborn"), encoding="utf-8")
    run = Running(specs, "run", "specs", *ON)
    run.until(lambda: (specs / "reached").exists() and len(run.journal()) == OTHERS)
    started, began = run.started(), time.monotonic()
    run.interrupt()
    code, _, err = run.end()
    assert time.monotonic() - began < SOON
    assert (code, err) == (130, "")
    assert len(report_in(specs / "reports/latest")["results"]) == OTHERS
    assert len(started) > 2
    await_(lambda: not alive(started))


def test_ctrl_c_while_the_libraries_load_is_no_traceback(specs: Path) -> None:
    run = Running(specs, "run", "specs", *ON)
    run.until((specs / "reports/latest/journal.jsonl").exists)
    run.interrupt()
    code, _, err = run.end()
    assert code == 130
    assert "Traceback" not in err


def test_kill_9_loses_only_the_checks_in_flight(specs: Path, harness: Call) -> None:
    run = Running(specs, "run", "specs", *ON)
    run.until(lambda: (specs / "reached").exists() and len(run.journal()) == OTHERS)
    processes = run.kill()
    assert len(processes) > 2
    await_(lambda: not alive(processes))
    assert list(Path(os.environ["TMPDIR"]).iterdir()) == []

    done = len(run.journal())
    journal = specs / "reports/latest/journal.jsonl"
    torn = journal.read_bytes()[:-20]  # as if the machine had stopped in the middle of a line
    journal.write_bytes(torn.replace(b'"passed"', b'"failed"', 1))  # and the disk had lost another line
    (specs / "go").touch()
    resumed = harness("run", "specs", *ON, "--resume")
    assert done == OTHERS
    assert len(resumed.report["results"]) == OTHERS + 2
    assert sum(resumed.report["run"]["exports"].values()) == 4, "finished checks are not run again"
    assert not journal.exists()

    complete = harness("run", "specs", *ON, "--report-dir", "complete", "--no-cache")
    assert (resumed.code, resumed.report["summary"]) == (complete.code, report_in(specs / "complete")["summary"])
    assert differences(resumed.report, report_in(specs / "complete")) == []


def test_checks_with_other_options_are_run_again(specs: Path, harness: Call) -> None:
    (specs / "go").touch()
    run = Running(specs, "run", "specs", *ON)
    run.until(lambda: len(run.journal()) >= 4)
    run.kill()
    kept = [json.loads(line.partition(b" ")[2])["fingerprint"] for line in run.journal()]
    resumed = harness("run", "specs", *ON, "--resume", "--strict-ulp", "0")
    assert len(resumed.report["results"]) == OTHERS + 2
    assert sum(resumed.report["run"]["exports"].values()) == OTHERS + 2
    assert len(set(kept)) == len(kept)


def test_two_runs_do_not_write_into_one_folder(specs: Path, harness: Call) -> None:
    run = Running(specs, "run", "specs", *ON)
    run.until((specs / "reached").exists)
    second = harness("run", "specs", *ON)
    assert second.code == 2
    assert "another run uses this folder" in second.err
    (specs / "go").touch()
    assert run.end()[0] == 1


def test_a_temporary_folder_too_long_for_a_socket_is_reported(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = specs / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    code, _, err = Running(specs, "run", "specs", *ON).end()
    assert (code, err.splitlines()) == (2, [f"TMPDIR {long}: AF_UNIX path too long; name a shorter folder"])


def test_kill_9_of_explain_leaves_nothing(specs: Path) -> None:
    run = Running(specs, "explain", "waiting", "specs/a-waiting.yaml", "--allow-import", "--target", "trace/torch-cpu")
    run.until((specs / "reached").exists)
    processes = run.kill()
    assert processes
    await_(lambda: not alive(processes))
    torch_folder = re.compile("torchinductor_.*")  # torch's cache of compiled code, shared by processes
    assert [path for path in Path(os.environ["TMPDIR"]).iterdir() if not torch_folder.fullmatch(path.name)] == []


def test_the_next_command_removes_the_folders_of_a_killed_audit(specs: Path, temporary: Path) -> None:
    run = Running(specs, "audit", "specs/good.yaml")
    run.until(lambda: list(temporary.iterdir()))
    run.kill()
    assert list(temporary.iterdir())
    locked = temporary / "harness-999999999-in-another-container"
    locked.mkdir()
    lock = os.open(locked, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code, _, err = Running(specs, "audit", "specs/good.yaml").end()
    os.close(lock)
    assert (code in {0, 1}, err) == (True, "")
    assert list(temporary.iterdir()) == [locked], "a folder in use stays"


# --- the user's modules ---------------------------------------------------------------------------------------------

BUILT = "from pathlib import Path\nfrom torch import nn\n{imports}\n\n\nclass Net(nn.Module):\n"
BUILT += "    def __init__(self, number):\n        super().__init__()\n"
BUILT += "        with Path('built').open('a') as file:\n            file.write(f'{{number}} ')\n"
BUILT += "    def forward(self, x):\n        return x * {scale}\n"
TWO = """
harness: 1
factory: {factory}
cases:
  - {{name: case, matrix: {{args.number: [1, 2]}}, inputs: {{x: {{values: [2.0, 3.0]}}}}, expect: {{range: [0, 5]}}}}
"""


@pytest.mark.parametrize(
    ("factory", "module", "imports", "scale", "helper"),
    [
        ("net.py:Net", "net.py", "", "int('3')", "net.py"),
        ("net.py:Net", "net.py", "import helper as h", "h.SCALE", "helper.py"),
        ("net:Net", "net.py", "from made.of import SCALE", "SCALE", "made/of/__init__.py"),
        ("made.net:Net", "made/net.py", "from .parts.one import SCALE", "SCALE", "made/parts/one.py"),
    ],
)
def test_a_result_does_not_outlive_a_change_of_the_users_modules(
    here: Path, harness: Call, factory: str, module: str, imports: str, scale: str, helper: str
) -> None:
    for name in (module, helper):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
    (here / helper).write_text("SCALE = 3\n", encoding="utf-8")
    (here / module).write_text(BUILT.format(imports=imports, scale=scale), encoding="utf-8")
    (here / "specs.yaml").write_text(TWO.format(factory=factory), encoding="utf-8")
    words = ("run", "specs.yaml", "--allow-import", "--targets", "trace/torch-cpu", "--no-latency", "-j", "1", "-x")
    stopped = harness(*words)
    assert (stopped.code, len(stopped.report["results"])) == (1, 1)
    (here / "built").unlink()
    resumed = harness(*words, "--resume")
    assert (resumed.code, len(resumed.report["results"])) == (1, 1)
    assert not (here / "built").exists(), "nothing has changed"
    changed = (here / helper).read_text(encoding="utf-8").replace("3", "1")
    (here / helper).write_text(changed, encoding="utf-8")
    resumed = harness(*words, "--resume")
    assert (resumed.code, resumed.report["summary"]["passed"]) == (0, 2)


def test_the_sources_of_a_callable_are_the_users_modules_at_any_depth(here: Path) -> None:
    files = {
        "net.py": "import torch, helper\nif True: import late; import_module('named')\n# import commented\n",
        "helper.py": "def f():\n    from folder.inner import deep\n",
        "late.py": "import net\n",
        "named.py": "import json, yaml\n",
        "commented.py": "this is no Python, and harmless",
        "folder/inner.py": "import \\\n",
        "folder/other.py": "",
        "unused.py": "",
        "json.py": "",
        ".venv/lib/site-packages/torch.py": "",
    }
    for name, text in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text, encoding="utf-8")
    found = {str(file.relative_to(here)) for file in source_files(["net.py:Net"])}
    assert found == files.keys() - {"unused.py", "commented.py", "json.py", ".venv/lib/site-packages/torch.py"}
    assert source_files(["net:Net"]) == source_files(["net.py:Net"])
    assert source_files(["torch.nn:ReLU", "absent:Net", "absent.py:Net", "harness.api:run"]) == []
    before = sources_digest(["net:Net"])
    (here / "unused.py").write_text("1", encoding="utf-8")
    assert sources_digest(["net:Net"]) == before
    (here / "folder/other.py").write_text("1", encoding="utf-8")
    assert sources_digest(["net:Net"]) != before
