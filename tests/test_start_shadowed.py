"""No module in the working directory is imported by its name; with consent it comes after all installed packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Call
from tests.shadows import LIBRARIES, OF_PYTHON, run_there, shadow

ROOT = Path(__file__).resolve().parent.parent
RELU = """
harness: 1
layer: ReLU
cases:
  - {name: a, inputs: {x: {shape: [2, 3]}}, bench: [{x: [1, 3]}]}
"""
NET = """
import torch
Net = torch.nn.ReLU
"""
TIMEOUT = 500.0
"""Seconds, for a busy machine; on an idle one all entry points together take about fifteen."""
TARGETS = ("--targets", "trace/torch-cpu")
# Like the script that pip installs: it is in a folder other than the working directory.
COMMANDS = """
import sys
from harness.cli import main

if __name__ == "__main__":
    for line in sys.argv[1:]:
        try:
            main(line.split())
        except SystemExit as end:
            print(line, "exited with", end.code, flush=True)
"""
FROM_PYTHON = """
import harness

if __name__ == "__main__":
    harness.run("specs", targets="trace/torch-cpu").assert_passed()
    print("passed")
"""
EVERY_COMMAND = (
    *("check specs", "list specs", "schema", "doctor", "init Tanh -o mine/tanh.yaml", "audit specs"),
    f"run specs --no-latency {' '.join(TARGETS)}",
    f"bench specs --budget 0.02 --processes 1 {' '.join(TARGETS)} --report-dir reports/bench",
    "pack specs -o bundle --targets onnx-torchscript@17/ort-cpu",
    f"explain relu/a specs --target {TARGETS[1]}",
)
ENTRY_POINTS: dict[str, tuple[tuple[str, ...], frozenset[str], str]] = {
    # how Python is started; the names that Python or pytest imports by itself; what a successful run prints
    "commands": (("{scripts}/commands.py", *EVERY_COMMAND), frozenset(), "exited with 0"),
    "python -m": (("-m", "harness", "run", "specs", "--no-latency", *TARGETS), frozenset(OF_PYTHON), "1 passed"),
    "python -c": (("-c", FROM_PYTHON), frozenset({"importlib"}), "passed"),
    "script": (("{scripts}/script.py",), frozenset(), "passed"),
    "pytest": (("-m", "pytest", "specs", f"--harness-targets={TARGETS[1]}"), frozenset({"platformdirs"}), "1 passed"),
}


@pytest.fixture(scope="module")
def started_entry_points(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[Path, subprocess.Popen[str]]]]:
    """Start all entry points at once, each in a separate folder that shadows every library."""
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "commands.py").write_text(COMMANDS, encoding="utf-8")
    (scripts / "script.py").write_text(FROM_PYTHON, encoding="utf-8")
    processes = {}
    for number, (name, (arguments, by_itself, _)) in enumerate(ENTRY_POINTS.items()):
        folder = tmp_path_factory.mktemp(f"entry{number}")
        (folder / "specs").mkdir()
        (folder / "specs" / "relu.yaml").write_text(RELU, encoding="utf-8")
        # An old cache entry: the run must load no extra module for it.
        (folder / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)
        ran = shadow(folder, LIBRARIES, but=by_itself) if name == "pytest" else shadow(folder, but=by_itself)
        command = [sys.executable, *(each.format(scripts=scripts) for each in arguments)]
        processes[name] = ran, start(command, folder)
    yield processes
    for _, process in processes.values():
        process.kill()
        process.communicate()


def start(command: list[str], folder: Path, *paths: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(map(str, (*paths, ROOT)))
    environment = os.environ | {"PYTHONPATH": path, "HARNESS_CACHE": str(folder / "cache"), "COLUMNS": "300"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_nothing_in_the_working_directory_runs(
    started_entry_points: dict[str, tuple[Path, subprocess.Popen[str]]], name: str
) -> None:
    ran, process = started_entry_points[name]
    out, err = process.communicate(timeout=TIMEOUT)
    assert run_there(ran) == []
    assert ENTRY_POINTS[name][2] in out, err
    assert "Traceback" not in out + err
    if name == "commands":
        assert out.count("exited with 0") + out.count("exited with 1") == len(EVERY_COMMAND), out + err


def test_an_empty_entry_of_pythonpath_names_no_folder(tmp_path: Path) -> None:
    """``$PYTHONPATH:/opt`` leaves one if the variable was not set; Python takes it for the working directory."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "relu.yaml").write_text(RELU, encoding="utf-8")
    ran = shadow(tmp_path, LIBRARIES, but=frozenset({"platformdirs"}))
    command = [sys.executable, "-m", "harness", "run", "specs", "--no-latency", *TARGETS]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}", "HARNESS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False, timeout=TIMEOUT
    )
    assert run_there(ran) == []
    assert done.returncode == 0, done.stderr


@pytest.fixture
def write_net(here: Path, spec: Callable[[str, str], Path]) -> Callable[[str, str], str]:
    """Write a user module and a spec of it; returns the factory name that the spec uses."""

    def write(file: str, factory: str) -> str:
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(NET, encoding="utf-8")
        spec("net.yaml", f"{{harness: 1, factory: '{factory}', cases: [{{name: a, inputs: {{x: {{shape: [2]}}}}}}]}}")
        return factory

    return write


@pytest.mark.parametrize(
    ("file", "factory", "owner", "remedy"),
    [
        ("random.py", "random:Net", "Python's standard library", "random.py; rename the file"),
        ("yaml/__init__.py", "yaml:Net", "the installed package PyYAML", "yaml; rename the folder"),
        ("onnx/own.py", "onnx.own:Net", "the installed package onnx", "onnx; rename the folder"),
        ("harness.py", "harness:Net", "harness itself", "harness.py; rename the file"),
    ],
)
def test_a_module_name_that_is_taken_is_refused(
    harness: Call, write_net: Callable[[str, str], str], file: str, factory: str, owner: str, remedy: str
) -> None:
    name = factory.partition(":")[0].partition(".")[0]
    message = f"the name {name} belongs to {owner}, which is imported instead of {remedy}"
    write_net(file, factory)
    ran = harness("run", "specs", "--allow-import", "--no-latency", *TARGETS)
    assert (ran.code, ran.only["status"], ran.only["stage"]) == (1, "error", "build")
    assert ran.only["message"] == f"factory '{factory}': {message}"
    tried = harness("init", f"{file}:Net" if file.endswith("random.py") else factory, "-o", "mine/net.yaml")
    assert (tried.code, tried.err) == (2, f"{factory.partition(':')[0]}: {message}\n")


def test_with_consent_the_folder_comes_after_everything_installed(
    harness: Call, here: Path, write_net: Callable[[str, str], str]
) -> None:
    """Standard library modules come from Python, also if only the user's module imports them."""
    (here / "deeper").mkdir()
    write_net("deeper/net.py", "deeper.net:Net")
    (here / "deeper" / "net.py").write_text(f"import pdb, csv, tabulate\n{NET}", encoding="utf-8")
    ran_there = shadow(here, but=frozenset())
    assert harness("run", "specs", "--allow-import", "--no-latency", *TARGETS).only["status"] == "passed"
    assert run_there(ran_there) == []


def test_a_folder_without_an_init_file_shadows_nothing(
    harness: Call, here: Path, write_net: Callable[[str, str], str]
) -> None:
    (here / "onnx").mkdir()
    write_net("net.py", "net:Net")
    assert harness("run", "specs", "--allow-import", "--no-latency", *TARGETS).only["status"] == "passed"


@pytest.mark.parametrize(
    ("torch", "message"),
    [
        ("raise RuntimeError('this one is broken')", "RuntimeError: this one is broken ("),
        ("import os\nos.kill(os.getpid(), 11)", "the process was killed by SIGSEGV"),
        ("raise ImportError", "ImportError ("),
        ("raise SystemExit", "SystemExit ("),
    ],
)
def test_workers_that_cannot_start_are_reported_in_one_line(tmp_path: Path, torch: str, message: str) -> None:
    """Harness uses PYTHONPATH, so it loads the torch in it."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "torch.py").write_text(f"{torch}\n", encoding="utf-8")
    (tmp_path / "relu.yaml").write_text(RELU, encoding="utf-8")
    process = start([sys.executable, "-m", "harness", "run", "relu.yaml"], tmp_path, tmp_path / "first")
    _, err = process.communicate(timeout=60)
    line = err.splitlines()[-1]
    assert process.returncode == 3
    assert line.startswith(f"worker processes cannot be started: {message}")
    assert line.endswith("; run harness doctor")
    assert "Traceback" not in err


def test_doctor_reports_workers_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('this one is broken')\n", encoding="utf-8")
    process = start([sys.executable, "-m", "harness", "doctor"], tmp_path, tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "worker processes cannot be started: RuntimeError: this one is broken (" in out.splitlines()[-1]


@pytest.mark.parametrize("file", ["of_a_plugin.py", "numpy.py"])
def test_a_library_that_cannot_be_loaded_is_reported_in_one_line(tmp_path: Path, file: str) -> None:
    shadow(tmp_path, (), but=frozenset())
    (tmp_path / file).write_text("raise ImportError('not for this machine')\n", encoding="utf-8")
    process = start([sys.executable, "-m", "harness", "doctor"], tmp_path, tmp_path)
    _, err = process.communicate(timeout=60)
    place = f"ImportError: not for this machine ({tmp_path / file}, line 1)"
    of_a_plugin = f"the plugin x of x cannot be loaded: {place}; update or uninstall x\n"
    of_a_library = f"a library cannot be loaded: {place}; reinstall it with pip\n"
    assert (process.returncode, err) == (3, of_a_library if file == "numpy.py" else of_a_plugin)
