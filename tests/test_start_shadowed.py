"""Nothing in the working directory runs by its name; with consent it is found after all that is installed."""

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
PATIENCE = 500.0
"""Seconds on a machine that has much else to do; by themselves all doors take some fifteen."""
ON = ("--targets", "trace/torch-cpu")
# As the script that pip installs: it stands in another folder than the one that somebody is in.
COMMANDS = """
import sys
from harness.cli import main

if __name__ == "__main__":
    for line in sys.argv[1:]:
        try:
            main(line.split())
        except SystemExit as left:
            print(line, "left with", left.code, flush=True)
"""
FROM_PYTHON = """
import harness

if __name__ == "__main__":
    harness.run("specs", targets="trace/torch-cpu").assert_passed()
    print("passed")
"""
EVERY_COMMAND = (
    *("check specs", "list specs", "schema", "doctor", "init Tanh -o mine/tanh.yaml", "audit specs"),
    f"run specs --no-latency {' '.join(ON)}",
    f"bench specs --budget 0.02 --processes 1 {' '.join(ON)} --report-dir reports/bench",
    "pack specs -o bundle --targets onnx-torchscript@17/ort-cpu",
    f"explain relu/a specs --target {ON[1]}",
)
DOORS: dict[str, tuple[tuple[str, ...], frozenset[str], str]] = {
    # how Python is started; the names that it, or pytest, imports by itself; what is printed where all is well
    "commands": (("{elsewhere}/commands.py", *EVERY_COMMAND), frozenset(), "left with 0"),
    "python -m": (("-m", "harness", "run", "specs", "--no-latency", *ON), frozenset(OF_PYTHON), "1 passed"),
    "python -c": (("-c", FROM_PYTHON), frozenset({"importlib"}), "passed"),
    "script": (("{elsewhere}/script.py",), frozenset(), "passed"),
    "pytest": (("-m", "pytest", "specs", f"--harness-targets={ON[1]}"), frozenset({"platformdirs"}), "1 passed"),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, subprocess.Popen[str]]]]:
    """Every door at once, each from a folder of its own with everything in it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "commands.py").write_text(COMMANDS, encoding="utf-8")
    (elsewhere / "script.py").write_text(FROM_PYTHON, encoding="utf-8")
    found = {}
    for number, (door, (arguments, by_itself, _)) in enumerate(DOORS.items()):
        folder = tmp_path_factory.mktemp(f"door{number}")
        (folder / "specs").mkdir()
        (folder / "specs" / "relu.yaml").write_text(RELU, encoding="utf-8")
        (folder / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)  # so that what is not needed is not loaded
        ran = shadow(folder, LIBRARIES, but=by_itself) if door == "pytest" else shadow(folder, but=by_itself)
        command = [sys.executable, *(each.format(elsewhere=elsewhere) for each in arguments)]
        found[door] = ran, started(command, folder)
    yield found
    for _, process in found.values():
        process.kill()
        process.communicate()


def started(command: list[str], folder: Path, *paths: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(map(str, (*paths, ROOT)))
    environment = os.environ | {"PYTHONPATH": path, "HARNESS_CACHE": str(folder / "cache"), "COLUMNS": "300"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("door", DOORS)
def test_nothing_in_the_working_directory_runs(
    opened: dict[str, tuple[Path, subprocess.Popen[str]]], door: str
) -> None:
    ran, process = opened[door]
    out, err = process.communicate(timeout=PATIENCE)
    assert run_there(ran) == []
    assert DOORS[door][2] in out, err
    assert "Traceback" not in out + err
    if door == "commands":
        assert out.count("left with 0") + out.count("left with 1") == len(EVERY_COMMAND), out + err


def test_an_empty_entry_of_pythonpath_names_no_folder(tmp_path: Path) -> None:
    """As ``$PYTHONPATH:/opt`` leaves one where the variable was not set; Python takes it for the working directory."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "relu.yaml").write_text(RELU, encoding="utf-8")
    ran = shadow(tmp_path, LIBRARIES, but=frozenset({"platformdirs"}))
    command = [sys.executable, "-m", "harness", "run", "specs", "--no-latency", *ON]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}", "HARNESS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False, timeout=PATIENCE
    )
    assert run_there(ran) == []
    assert done.returncode == 0, done.stderr


@pytest.fixture
def net(here: Path, spec: Callable[[str, str], Path]) -> Callable[[str, str], str]:
    """Put a module of one's own beside a spec of it, and give the name that the spec has for it."""

    def put(file: str, named: str) -> str:
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(NET, encoding="utf-8")
        spec("net.yaml", f"{{harness: 1, factory: '{named}', cases: [{{name: a, inputs: {{x: {{shape: [2]}}}}}}]}}")
        return named

    return put


@pytest.mark.parametrize(
    ("file", "named", "owner", "shown"),
    [
        ("random.py", "random:Net", "Python's standard library", "random.py is not; rename the file"),
        ("yaml/__init__.py", "yaml:Net", "the installed package PyYAML", "yaml is not; rename the folder"),
        ("onnx/own.py", "onnx.own:Net", "the installed package onnx", "onnx is not; rename the folder"),
        ("harness.py", "harness:Net", "harness itself", "harness.py is not; rename the file"),
    ],
)
def test_a_name_that_is_taken_is_told(
    harness: Call, net: Callable[[str, str], str], file: str, named: str, owner: str, shown: str
) -> None:
    said = f"the name {named.partition(':')[0].partition('.')[0]} is that of {owner}, which is imported and {shown}"
    net(file, named)
    ran = harness("run", "specs", "--allow-import", "--no-latency", *ON)
    assert (ran.code, ran.only["status"], ran.only["stage"]) == (1, "error", "build")
    assert ran.only["message"] == f"factory '{named}': {said}"
    tried = harness("init", f"{file}:Net" if file.endswith("random.py") else named, "-o", "mine/net.yaml")
    assert (tried.code, tried.err) == (2, f"{named.partition(':')[0]}: {said}\n")


def test_with_consent_the_folder_is_found_after_all_else(
    harness: Call, here: Path, net: Callable[[str, str], str]
) -> None:
    """Names that Python has not loaded yet are its own all the same, in the user's module as well."""
    (here / "deeper").mkdir()
    net("deeper/net.py", "deeper.net:Net")
    (here / "deeper" / "net.py").write_text(f"import pdb, csv, tabulate\n{NET}", encoding="utf-8")
    ran_there = shadow(here, but=frozenset())
    assert harness("run", "specs", "--allow-import", "--no-latency", *ON).only["status"] == "passed"
    assert run_there(ran_there) == []


def test_a_folder_that_has_no_name_of_its_own_takes_none(
    harness: Call, here: Path, net: Callable[[str, str], str]
) -> None:
    (here / "onnx").mkdir()
    net("net.py", "net:Net")
    assert harness("run", "specs", "--allow-import", "--no-latency", *ON).only["status"] == "passed"


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        ("raise RuntimeError('this one is broken')", "RuntimeError: this one is broken ("),
        ("import os\nos.kill(os.getpid(), 11)", "the process was ended by SIGSEGV"),
        ("raise ImportError", "ImportError ("),
        ("raise SystemExit", "SystemExit ("),
    ],
)
def test_what_keeps_workers_from_starting_is_one_line(tmp_path: Path, torch: str, said: str) -> None:
    """PYTHONPATH is obeyed, so that a torch there is the one that is loaded."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "torch.py").write_text(f"{torch}\n", encoding="utf-8")
    (tmp_path / "relu.yaml").write_text(RELU, encoding="utf-8")
    process = started([sys.executable, "-m", "harness", "run", "relu.yaml"], tmp_path, tmp_path / "first")
    _, err = process.communicate(timeout=60)
    line = err.splitlines()[-1]
    assert process.returncode == 3
    assert line.startswith(f"worker processes cannot be started: {said}")
    assert line.endswith("; run harness doctor")
    assert "Traceback" not in err


def test_doctor_finds_what_keeps_workers_from_starting(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('this one is broken')\n", encoding="utf-8")
    process = started([sys.executable, "-m", "harness", "doctor"], tmp_path, tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "worker processes cannot be started: RuntimeError: this one is broken (" in out.splitlines()[-1]


@pytest.mark.parametrize("file", ["of_a_plugin.py", "numpy.py"])
def test_what_the_run_itself_cannot_load_is_one_line(tmp_path: Path, file: str) -> None:
    shadow(tmp_path, (), but=frozenset())
    (tmp_path / file).write_text("raise ImportError('not for this machine')\n", encoding="utf-8")
    process = started([sys.executable, "-m", "harness", "doctor"], tmp_path, tmp_path)
    _, err = process.communicate(timeout=60)
    place = f"ImportError: not for this machine ({tmp_path / file}, line 1)"
    of_a_plugin = f"the plugin x of x cannot be loaded: {place}; update or uninstall x\n"
    of_a_library = f"a library cannot be loaded: {place}; reinstall it with pip\n"
    assert (process.returncode, err) == (3, of_a_library if file == "numpy.py" else of_a_plugin)
