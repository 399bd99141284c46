"""However a command ends, it prints one line and has the right exit code."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import run as run_specs
from harness.cli.process import Signals
from harness.engine.processes.limits import FILES_OF_RUN, FILES_PER_WORKER
from harness.errors import Interrupted, interrupting_signal
from harness.report.json_report import JsonReport
from harness.result import Report
from tests.conftest import Call
from tests.recorded_models import X, relu
from tests.running import Running, alive, await_, report_in, without_progress
from tests.test_engine_interrupted import ON, OTHERS, WAITING, specs, temporary

__all__ = ["specs", "temporary"]  # fixtures

HARNESS = (sys.executable, "-m", "harness")
UNREACHABLE = "/nowhere/at/all"
LONG_TIMEOUT = 100.0
NOT_PRINTED = "standard output: No space left on device; the output is incomplete"


def started(folder: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``command`` in ``folder``. Its output is captured unless ``options`` redirect it."""
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **piped)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONG_TIMEOUT)
    return process.returncode, out or "", without_progress(err or "")


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "group", "ignored"), [(signal.SIGTERM, True, signal.SIGHUP), (signal.SIGHUP, False, None)]
)
def test_a_run_ends_by_a_signal_as_by_ctrl_c(
    specs: Path, harness: Call, number: signal.Signals, group: bool, ignored: signal.Signals | None
) -> None:
    def as_nohup_does() -> None:
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    run = Running(specs, "run", "specs", *ON, limit=as_nohup_does)
    run.until(lambda: (specs / "reached").exists() and len(run.journal()) == OTHERS)
    processes = run.started()
    if ignored is not None:
        run.send(ignored, group=True)
    run.send(number, group=group)
    code, out, err = run.end()
    assert (code, err) == (128 + number, "")
    report = report_in(specs / "reports/latest")
    assert (report["run"]["interrupted"], report["run"]["interrupted_by"]) == (True, number.name)
    assert [row["symptom"] for row in report["results"]].count("crash") == 0
    assert len(report["results"]) == OTHERS
    assert len(processes) > 2
    await_(lambda: not alive(processes))
    await_(lambda: not list(Path(os.environ["TMPDIR"]).iterdir()))
    *_, go_on, verdict = out.splitlines()
    assert f"interrupted by {number.name} after {OTHERS} checks" in verdict

    (specs / "go").touch()
    resumed = harness(*shlex.split(go_on.removeprefix("Continue with: "))[1:])
    assert len(resumed.report["results"]) == OTHERS + 2
    assert sum(resumed.report["run"]["exports"].values()) == 2, "what was known is not run again"
    assert resumed.report["run"]["interrupted_by"] is None


def test_the_other_commands_end_by_a_signal_and_leave_nothing(here: Path, temporary: Path) -> None:
    where = ["--allow-import", "--targets", "trace/torch-cpu"]
    commands = {
        "pack": ["specs", "-o", "made", *where],
        "explain": ["waiting", "specs", "-o", "made", "--allow-import", "--target", "trace/torch-cpu"],
        "init": ["hostile.py:Stubborn", "--input", "2", "-o", "made"],
    }
    running: dict[str, Running] = {}
    for command, arguments in commands.items():
        (folder := here / command / "specs").mkdir(parents=True)
        (folder / "a.yaml").write_text(WAITING.replace("Wait", "Stubborn"), encoding="utf-8")
        shutil.copy(Path(__file__).parent / "hostile.py", folder.parent)
        running[command] = Running(folder.parent, command, *arguments, paths=(folder.parent,))
    processes: list[psutil.Process] = []
    for number, (command, run) in zip((signal.SIGTERM, signal.SIGHUP, signal.SIGTERM), running.items(), strict=True):
        run.until((here / command / "reached").exists)
        processes += run.started()
        run.send(number, group=True)
        code, _, err = run.end()
        assert (code, err.splitlines()[-1]) == (128 + number, f"interrupted by {number.name}")
        assert not (here / command / "made").exists()
    await_(lambda: not alive(processes))
    await_(lambda: not [one for one in temporary.iterdir() if not one.name.startswith("torchinductor")])


def test_an_audit_ends_by_a_signal(here: Path, temporary: Path) -> None:
    many = ", ".join(f"{0.01 * number:.2f}" for number in range(1, 400))
    case = f"{{name: a, matrix: {{args.negative_slope: [{many}]}}, inputs: {{x: {{shape: [2]}}}}}}"
    (here / "many.yaml").write_text(f"{{harness: 1, layer: LeakyReLU, cases: [{case}]}}", encoding="utf-8")
    run = Running(here, "audit", "many.yaml")
    run.until(lambda: list(temporary.iterdir()))
    run.send(signal.SIGTERM, group=False)
    code, _, err = run.end()  # an importing library may treat the signal as an error and continue
    assert (code, err) == (143, "interrupted by SIGTERM\n")
    assert not list(temporary.iterdir())


def test_a_second_signal_ends_at_once_unless_it_is_the_first_one_sent_twice() -> None:
    now = [0.0]
    with Signals(lambda: now[0]) as signals:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    program = """
import time
from harness.cli.process import Signals
with Signals():
    try:
        print("ready", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        print("first", flush=True)
    while True:
        time.sleep(100)
"""
    process = started(Path.cwd(), sys.executable, "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def ended_by_another() -> bool:
        process.send_signal(signal.SIGHUP)
        return process.poll() is not None

    await_(ended_by_another)
    assert (process.returncode, ended(process)[1]) == (128 + signal.SIGHUP, "first\n")


def test_other_handlers_stay(spec: Callable[[str, str], Path], harness: Call) -> None:
    spec("relu.yaml", "{harness: 1, layer: ReLU, cases: [{name: a, inputs: {x: {shape: [2]}}}]}")
    seen: list[object] = []

    def mine(number: int, _frame: object) -> None:
        seen.append(number)

    before = {number: signal.signal(number, mine) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with Signals():
            signal.raise_signal(signal.SIGTERM)
        assert run_specs("specs", targets="trace/torch-cpu", latency=False).passed
        assert harness("check", "specs").code == 0
        assert {signal.getsignal(number) for number in before} == {mine}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == [signal.SIGTERM]


# --- streams --------------------------------------------------------------------------------------------------------

RUN = ("run", "recorded", "--targets", "ort-cpu", "--no-latency", "-j", "1", "--report-dir")


def test_a_run_does_not_need_somewhere_to_print(here: Path) -> None:
    relu(here / "recorded/good")
    relu(here / "recorded/wrong", X + 1)
    ways = {
        "closed": ">&-",
        "no-errors": "2>&-",
        "nothing": ">&- 2>&- <&-",
        "full": "> /dev/full",
        "both-full": "> /dev/full 2>&1",
        "reader-gone": "| true; exit ${PIPESTATUS[0]}",
    }
    command = shlex.join((*HARNESS, *RUN))
    runs = {name: started(here, "bash", "-c", f"{command} {name} {how}") for name, how in ways.items()}
    for name, run in runs.items():
        code, out, err = ended(run)
        assert code == 1, (name, err)
        report = report_in(here / name)
        assert [row["status"] for row in report["results"]] == ["passed", "failed"]
        assert report["run"]["interrupted"] is False
        assert not (here / name / "journal.jsonl").exists()
        assert ("Not as expected: 1 of 2" in out) == (name == "no-errors")
        assert err == ("standard output: No space left on device; the output is incomplete\n" if name == "full" else "")


def test_a_command_whose_output_is_lost_exits_3(here: Path) -> None:
    report = here / "report.json"
    report.write_text(JsonReport().render(Report({}, ())), encoding="utf-8")
    (here / "relu.yaml").write_text("{harness: 1, layer: ReLU, cases: [{name: a, inputs: {x: {shape: [2]}}}]}")
    commands = {
        "--help": 0,
        "run --help": 0,
        "schema": 0,
        "doctor": 0,
        "list relu.yaml": 0,
        "check relu.yaml": 0,
        "diff report.json report.json": 0,
        "explain": 2,
    }
    full = {one: started(here, "bash", "-c", f"{shlex.join(HARNESS)} {one} > /dev/full") for one in commands}
    for one, process in full.items():
        code, _, err = ended(process)
        expected = (3, NOT_PRINTED)
        assert (code, err.splitlines()[-1]) == expected or code == commands[one] == 2, (one, err)
    gone = {one: _without_reader(here, *one.split()) for one in commands}
    for one, process in gone.items():
        code, _, err = ended(process)
        assert code == commands[one], (one, err)
        assert err == "" or code == 2


def _without_reader(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start harness with standard output to a pipe with no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    process = started(folder, *HARNESS, *arguments, stdout=writer)
    os.close(writer)
    return process


class Wordless(Exception):
    """An exception without a message: str() of it raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


# --- what the system refuses ----------------------------------------------------------------------------------------

CAN_UNSHARE = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
CAN_BE_ANOTHER = os.getuid() == 0 and shutil.which("setpriv") is not None and shutil.which("prlimit") is not None
ANOTHER = (
    "setpriv --reuid 65534 --clear-groups"
    " --inh-caps +dac_read_search,+dac_override --ambient-caps +dac_read_search,+dac_override"
)
READ_ONLY = "mount -t tmpfs -o ro none"


@pytest.mark.parametrize(
    ("before", "code", "message"),
    [
        pytest.param(
            "mkdir gone; cd gone; rmdir ../gone", 3, "the working directory does not exist any more", id="no-folder"
        ),
        pytest.param("ulimit -n 20", 3, "at most 20 files may be open at once (ulimit -n)", id="files"),
        pytest.param(
            f"{ANOTHER} prlimit --nproc=1",
            3,
            "only 0 more processes or threads may be started here",
            marks=pytest.mark.skipif(not CAN_BE_ANOTHER, reason="needs root, setpriv and prlimit: root has no limit"),
            id="processes",
        ),
        pytest.param(
            f"{READ_ONLY} /dev/shm",
            3,
            "workers need a semaphore, which /dev/shm does not hold: Read-only file system",
            marks=pytest.mark.skipif(not CAN_UNSHARE, reason="needs the right to mount"),
            id="semaphores",
        ),
        pytest.param(
            "for folder in /tmp /var/tmp /usr/tmp; do [ -d $folder ] && " + READ_ONLY + " $folder; done; cd /proc",
            3,
            "no folder for temporary files, neither /tmp nor another usual one",
            marks=pytest.mark.skipif(not CAN_UNSHARE, reason="needs the right to mount"),
            id="temporary",
        ),
    ],
)
def test_a_limit_of_the_system_is_one_line(here: Path, before: str, code: int, message: str) -> None:
    relu(here / "recorded/good")
    folder = here
    if "/tmp" in before:  # the mount hides all files in it
        if sys.executable.startswith("/tmp/"):
            pytest.skip("Python itself is in /tmp here, which the test hides")
        folder = Path(__file__).parents[1] / "specs"
    where = folder / ("relu.yaml" if folder != here else "recorded")
    command = shlex.join((*HARNESS, "run", str(where), "--no-latency", "-j", "1", "--report-dir", str(here / "report")))
    shell = ["unshare", "-m"] if READ_ONLY in before else []
    joined = f"{before} {command}" if ANOTHER in before else f"{before}; {command}"
    here.chmod(0o777)
    ran = started(here, *shell, "bash", "-c", joined)
    assert_line(ended(ran), code, message)


def assert_line(result: tuple[int, str, str], code: int, message: str) -> None:
    assert result[0] == code, result
    assert result[1] == ""
    (line,) = result[2].splitlines()
    assert line.startswith(message)


def test_so_many_files_are_enough(here: Path) -> None:
    relu(here / "recorded/good")
    relu(here / "recorded/other")
    limit = FILES_OF_RUN + 2 * FILES_PER_WORKER

    def as_few_as_needed() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, limit))

    words = ("run", "recorded", "--targets", "ort-cpu", "--no-latency", "-j", "2")
    assert Running(here, *words, limit=as_few_as_needed).end()[0] == 0


@pytest.mark.parametrize("error", [TypeError("x\ny"), EOFError(), BrokenPipeError(32, "Broken pipe"), Wordless()])
def test_an_unexpected_exception_is_a_failure_of_harness_itself(
    harness: Call, here: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("harness.spec.discovery.load_specs", broken)
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr("tempfile.tempdir", None)
    ran = harness("check", "specs")
    (line,) = ran.err.splitlines()
    assert (ran.code, line.startswith(f"harness itself failed: {type(error).__name__}: ")) == (3, True)
    kept = Path(line.rpartition("the traceback is in ")[2])
    assert "in broken" in kept.read_text(encoding="utf-8")
    monkeypatch.setenv("HARNESS_TRACEBACK", "1")
    printed = harness("check", "specs")
    assert printed.code == 3
    assert printed.err.startswith("Traceback")
    assert [path for path in here.iterdir() if path.name.startswith("harness-traceback")] == [kept]


def test_a_library_that_replaces_the_interrupt_does_not_hide_the_signal() -> None:
    """Ray catches the exception of a signal handler and raises another KeyboardInterrupt."""
    with Signals(), pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    assert interrupting_signal(KeyboardInterrupt()) == signal.SIGTERM
    with Signals():
        assert interrupting_signal(KeyboardInterrupt()) == signal.SIGINT
