"""However a module ends its check, its row has the module's message, and all other checks run."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import psutil
import pytest
import torch

import harness as api
from harness.check import settings
from harness.engine import worker_slot
from harness.engine.processes.exits import has_ended
from harness.engine.worker_status import NO_DEADLINE, WorkerExit, WorkerStatus
from tests import recorded_models
from tests.conftest import Call, Ran
from tests.running import Running, alive, await_

ON = ("--allow-import", "--no-latency", "--targets", "trace/torch-cpu")
KILLED_NOTE = "1 process started by the check was killed after it"
DISK_FULL = "[Errno 28] No space left on device"
Put = Callable[..., None]


@pytest.fixture
def put(here: Path, spec: Callable[[str, str], Path]) -> Put:
    """``put(name, **arguments)`` writes a spec with one misbehaving module, beside a good case."""
    shutil.copy(Path(__file__).parent / "misbehaving.py", here)
    spec("good.yaml", "harness: 1\nlayer: ReLU\ncases: [{name: case, inputs: {x: {shape: [3]}}}]\n")

    def write(name: str, **arguments: object) -> None:
        spec_name = "-".join([name, *map(str, arguments.values())])
        case = f"{{name: case, args: {arguments!r}, inputs: {{x: {{shape: [3]}}}}}}"
        case = case.replace("True", "true").replace("False", "false")
        spec(f"{spec_name}.yaml", f"harness: 1\nfactory: misbehaving:{name}\ncases: [{case}]\n")

    return write


def failures(ran: Ran) -> dict[str, tuple[str, str, str]]:
    """Return stage, symptom and message of every check that did not pass, by spec."""
    return {
        row["case"].removesuffix("/case"): (row["stage"], row["symptom"], row["message"])
        for row in ran.report["results"]
        if row["status"] != "passed"
    }


ENDS = {
    "Interrupts": ("build", "KeyboardInterrupt: said by the module"),
    "InterruptsInConstructor": ("build", "KeyboardInterrupt: said by the constructor"),
    "InterruptsWhenTraced": ("export", "KeyboardInterrupt: said while it is traced"),
    "Closes": ("build", "GeneratorExit: no message"),
    "RaisesCustomExit": ("build", "CustomExit: my reason"),
    "CustomExitFromASignal": ("build", "CustomExit: my own limit"),
    "WithoutMessage": ("build", "Silent: no message, since str() of it raises RuntimeError"),
    "EndlessMessage": ("build", f"ValueError: {'x' * 2000} ... (52,428,800 characters in all)"),
    "Unprintable": ("build", f"ValueError: \\x1b[2J\\udcff\\x00{'/' * 1994} ... (60,006 characters in all)"),
    "EndlessExit": ("build", f"the code called exit({'y' * 2000} ... (52,428,800 characters in all))"),
    "CircularCause": ("build", "ValueError: the first"),
    "OddClass": ("build", "Odd name: odd, but told"),
    "FullDiskElsewhere": ("build", f"OSError: {DISK_FULL}"),
    "DiskError-EDQUOT": ("build", "OSError: [Errno 122] Disk quota exceeded"),
    "DiskError-EIO": ("build", "OSError: [Errno 5] Input/output error"),
    "LimitsItsFiles-False": ("build", "OSError: [Errno 27] File too large"),
    "LimitsItsFiles-True": ("build", "OSError: [Errno 27] File too large"),
    "importing": ("build", "KeyboardInterrupt: said on import"),
}


def test_whatever_a_module_raises_affects_only_its_check(
    harness: Call, put: Put, here: Path, spec: Callable[[str, str], Path]
) -> None:
    for name in ENDS:
        word, _, argument = name.partition("-")
        if word == "LimitsItsFiles":
            put(word, for_good=argument == "True")
        elif word == "DiskError":
            put(word, number=argument)
        elif word != "importing":
            put(word)
    put("KilledByItsOwnAlarm")
    (here / "importing.py").write_text("raise KeyboardInterrupt('said on import')\n", encoding="utf-8")
    text = "harness: 1\nfactory: importing:Net\ncases: [{name: case, inputs: {x: {shape: [3]}}}]\n"
    spec("importing.yaml", text)
    ran = harness("run", "specs", *ON)
    assert ran.err == ""
    assert ran.code == 1
    failed = failures(ran)
    assert failed.pop("KilledByItsOwnAlarm") == ("build", "crash", "the process was killed by SIGALRM")
    assert failed == {name: (stage, "exception", message) for name, (stage, message) in ENDS.items()}
    assert ran.rows["good/case", "trace/torch-cpu"]["status"] == "passed"
    assert len((here / "reports/latest/report.json").read_bytes()) < 2**18


def test_what_a_module_does_to_processes_and_files_affects_only_its_check(harness: Call, put: Put) -> None:
    for name in ("KillsItsGroup", "StopsItsParent", "AllowsNoMoreFiles"):
        put(name)
    ran = harness("run", "specs", *ON)
    assert (ran.code, ran.err) == (1, "")
    failed = failures(ran)
    assert failed.pop("KillsItsGroup") == ("build", "crash", "the process was killed by SIGKILL")
    assert list(failed) == ["AllowsNoMoreFiles"]
    assert ran.rows["good/case", "trace/torch-cpu"]["status"] == "passed"


def test_processes_started_by_a_check_are_killed_after_it(harness: Call, put: Put, here: Path) -> None:
    """Even if their parent has ended, they are in another session and the worker was killed."""
    for then in ("return", "crash"):
        put("Daemon", then=then)
    for traced in (False, True):
        put("ForksAndReturns", traced=traced)
    put("StartsAndWaits")
    put("WatchesItsChild")
    put("WritesTheJournal")
    ran = harness("run", "specs", *ON)
    assert failures(ran) == {"Daemon-crash": ("build", "crash", "the process was killed by SIGSEGV")}
    notes = {row["case"].removesuffix("/case"): row["notes"] for row in ran.report["results"]}
    assert [name for name, lines in notes.items() if "killed after it" in " ".join(lines)] == [
        "Daemon-crash",
        "Daemon-return",
        "ForksAndReturns-False",
        "ForksAndReturns-True",
        "WatchesItsChild",
    ]
    assert notes["Daemon-crash"] == notes["Daemon-return"] == notes["WatchesItsChild"] == [KILLED_NOTE]
    assert notes["StartsAndWaits"] == notes["WritesTheJournal"] == notes["good"] == []
    assert len(ran.rows) == len(ran.report["results"]) == 8
    pids = [int((here / then).read_text(encoding="utf-8")) for then in ("return", "crash")]
    assert not alive(psutil.Process(pid) for pid in pids if psutil.pid_exists(pid))


def test_a_time_limit_is_a_timeout_and_grows_with_the_model(
    harness: Call, put: Put, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes processes that end slowly or ignore the alarm signal."""
    monkeypatch.setattr(settings, "TIMEOUT", 2.0)
    monkeypatch.setattr(settings, "TIMEOUT_PER_GIB", 20.0)
    monkeypatch.setattr(worker_slot, "GRACE", 0.5)
    put("DiesSlowly")
    put("Hangs", mib=64)
    put("Hangs", mib=0, ignores_alarm=True)
    put("Daemon", then="hang")
    ran = harness("run", "specs", *ON, "-j", "4")
    after = "not done after {} s; --timeout sets the limit"
    assert failures(ran) == {
        "DiesSlowly": ("build", "timeout", after.format(2)),
        "Hangs-64": ("build", "timeout", after.format(4)),
        "Hangs-0-True": ("build", "timeout", after.format(2)),
        "Daemon-hang": ("build", "timeout", after.format(2)),
    }
    assert ran.rows["Daemon-hang/case", "trace/torch-cpu"]["notes"] == [KILLED_NOTE]
    pid = int((here / "hang").read_text(encoding="utf-8"))
    assert not alive([psutil.Process(pid)] if psutil.pid_exists(pid) else [])


class _SilentPool:
    """A pool that never hears of the process that its server started."""

    active = True

    def schedule(self, *_args: Any, **_named: Any) -> Future[None]:
        """A future that nothing ends."""
        return Future()

    def stop(self) -> None:
        """Nothing runs."""

    join = stop


class _SilentSlot(worker_slot.WorkerSlot):
    def _new_pool(self) -> Any:
        return _SilentPool()


def test_a_process_that_is_gone_is_given_up_without_a_time_limit(tmp_path: Path) -> None:
    """The server may end while it starts a worker: the pool waits for it, and there may be no deadline."""
    done: list[worker_slot.WorkerSlot] = []
    slot, job = _SilentSlot(tmp_path / "slot", done.append), SimpleNamespace(runs_user_code=False)
    slot.submit(cast("Any", job))
    status = WorkerStatus(tmp_path / "slot" / "status")
    status.set_between_checks(os.getpid(), NO_DEADLINE)
    slot.poll()
    assert not done, "this process lives"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    await_(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE)
    status.set_between_checks(ended.pid, NO_DEADLINE)
    slot.poll()
    assert done == [slot]
    assert isinstance(slot.take_result()[1], WorkerExit)
    ended.wait()
    assert has_ended(ended.pid)
    slot.close()


def test_a_time_limit_set_by_the_user_does_not_grow(harness: Call, put: Put) -> None:
    put("Hangs", mib=64)
    ran = harness("run", "specs", *ON, "--timeout", "4")
    assert failures(ran) == {"Hangs-64": ("build", "timeout", "not done after 4 s; --timeout sets the limit")}


def test_a_memory_limit_grows_with_the_model(harness: Call, put: Put, here: Path) -> None:
    """64 MiB of weights allow 512 MiB more."""
    put("Asks", weights=0, asks=480)
    put("Asks", weights=64, asks=480)
    ran = harness("run", "specs", *ON, "--memory", "300M")
    assert {name: symptom for name, (_, symptom, _) in failures(ran).items()} == {"Asks-0-480": "out-of-memory"}
    assert ran.rows["Asks-64-480/case", "trace/torch-cpu"]["status"] == "passed"


def chained(*operators: str) -> onnx.ModelProto:
    """A product of four matrices: as one Einsum, which its evaluation takes minutes for, or as some MatMul."""
    nodes = [onnx.helper.make_node("Einsum", ["x"] * 4, ["product"], equation="ij,jk,kl,lm->im")]
    if "Einsum" not in operators:
        names = ["x", "second", "third", "product"]
        nodes = [onnx.helper.make_node("MatMul", [one, "x"], [other]) for one, other in itertools.pairwise(names)]
    last = onnx.helper.make_node("Relu" if "Relu" in operators else "Identity", ["product"], ["y"])
    return recorded_models.graph([*nodes, last], {"x": SQUARE}, {"y": SQUARE})


SQUARE = recorded_models.tensor(shape=[160, 160])


def test_a_verdict_is_kept_where_the_work_after_it_ends_the_process(
    harness: Call, put: Put, here: Path, spec: Callable[[str, str], Path]
) -> None:
    """A failure stays one; a pass counts no longer where the layers, which might fail it, are not known."""
    for then in ("hang", "crash"):
        put("MisbehavesInside", wrong=True, then=then)
        put("MisbehavesInside", wrong=False, then=then)
    for name, operators in (("reference", ["MatMul"]), ("wrong", ["Einsum", "Relu"])):
        onnx.save(chained(*operators), here / "specs" / f"{name}.onnx")
    cases = "cases: [{name: case, inputs: {x: {shape: [160, 160]}}}]"
    spec("Compared.yaml", f"harness: 1\nfile: reference.onnx\ndefaults: {{files: {{wrong: wrong.onnx}}}}\n{cases}\n")
    values = np.ones((160, 160), np.float32)
    recorded_models.record(here / "recorded", chained("Einsum"), [values], [values])
    targets = "trace/torch-cpu,file:wrong/ort-cpu,ort-cpu"
    on = ("--allow-import", "--no-latency", "--targets", targets, "--layers", "--timeout", "5", "-j", "4")
    ran = harness("run", "specs", "recorded", *on)
    assert ran.report, ran.err
    rows = {row["case"].removesuffix("/case"): row for row in ran.report["results"]}
    late, crashed = "not done after 5 s; --timeout sets the limit", "the process was killed by SIGSEGV"
    agree = "the outputs agree; then comparing the layers: "
    assert {name: (row["status"], row["symptom"]) for name, row in rows.items()} == {
        "good": ("passed", None),
        "MisbehavesInside-False-hang": ("error", "timeout"),
        "MisbehavesInside-False-crash": ("error", "crash"),
        **dict.fromkeys(
            ["MisbehavesInside-True-hang", "MisbehavesInside-True-crash", "Compared", "recorded"],
            ("failed", "mismatch"),
        ),
    }
    assert rows["MisbehavesInside-False-hang"]["message"] == agree + late
    assert rows["MisbehavesInside-False-crash"]["message"] == agree + crashed
    layers = "comparing the layers and finding the blame was not finished "
    assert rows["MisbehavesInside-True-hang"]["notes"] == [f"{layers}within 5 s; --timeout sets the limit"]
    assert rows["MisbehavesInside-True-crash"]["notes"] == [f"{layers}because {crashed}"]
    for name in ("Compared", "recorded"):
        assert rows[name]["notes"] == ["finding the blame was not finished within 5 s; --timeout sets the limit"]
        assert rows[name]["blame"] is None
        assert rows[name]["outputs"][0]["mismatched"]


@pytest.mark.parametrize("end", [Running.kill, Running.interrupt])
def test_processes_started_by_checks_do_not_outlive_a_stopped_run(
    put: Put, here: Path, end: Callable[[Running], object]
) -> None:
    put("Daemon", then="hang")
    (here / "specs/good.yaml").unlink()
    running = Running(here, "run", "specs", *ON)
    running.until((here / "hang").exists)
    daemon = psutil.Process(int((here / "hang").read_text(encoding="utf-8")))
    end(running)
    await_(lambda: not alive([daemon]))
    running.end()


class Interrupted(torch.nn.Module):
    """Sends itself SIGINT, or raises ``KeyboardInterrupt``."""

    def __init__(self, *, by_signal: bool) -> None:
        super().__init__()
        self.by_signal = by_signal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.by_signal:
            raise KeyboardInterrupt("said by the module")
        os.kill(os.getpid(), signal.SIGINT)
        return x


def test_in_the_callers_process_a_real_interrupt_is_raised() -> None:
    verdict = api.verify(Interrupted(by_signal=False), torch.ones(2), targets="trace/torch-cpu")
    assert [row.message for row in verdict.results] == ["KeyboardInterrupt: said by the module"]
    with pytest.raises(KeyboardInterrupt):
        api.verify(Interrupted(by_signal=True), torch.ones(2), targets="trace/torch-cpu")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_explain_and_init_report_it_too(harness: Call, put: Put) -> None:
    put("RaisesCustomExit")
    ran = harness("explain", "RaisesCustomExit", "--target", "trace/torch-cpu", "--allow-import")
    assert "CustomExit: my reason" in ran.out
    assert "Traceback" not in ran.out + ran.err
    ran = harness("init", "misbehaving.py:Interrupts", "-o", "first.yaml")
    assert ran.code == 2
    assert "said by the module" in ran.err
    assert len(ran.err.splitlines()) == 1
