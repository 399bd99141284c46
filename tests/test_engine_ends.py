"""However a module ends its check, that is one row with the module's own reason, and all other checks run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

import harness as api
from harness.check import settings
from harness.engine import worker_slot as slot
from tests.conftest import Call, Ran
from tests.running import Running, alive, await_

ON = ("--allow-import", "--no-latency", "--targets", "trace/torch-cpu")
ENDED = "1 process that the check had started was ended with it"
FULL = "[Errno 28] No space left on device"
Put = Callable[..., None]


@pytest.fixture
def put(here: Path, spec: Callable[[str, str], Path]) -> Put:
    """``put(name, **arguments)``: one misbehaving module as a spec of its own, beside a good case."""
    shutil.copy(Path(__file__).parent / "misbehaving.py", here)
    spec("good.yaml", "harness: 1\nlayer: ReLU\ncases: [{name: case, inputs: {x: {shape: [3]}}}]\n")

    def write(name: str, **arguments: object) -> None:
        called = "-".join([name, *map(str, arguments.values())])
        given = f"{{name: case, args: {arguments!r}, inputs: {{x: {{shape: [3]}}}}}}"
        given = given.replace("True", "true").replace("False", "false")
        spec(f"{called}.yaml", f"harness: 1\nfactory: misbehaving:{name}\ncases: [{given}]\n")

    return write


def told(ran: Ran) -> dict[str, tuple[str, str, str]]:
    """Stage, symptom and message of every check that did not pass, by its spec."""
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
    "OwnBase": ("build", "Own: my reason"),
    "OwnFromATimer": ("build", "Own: my own limit"),
    "NoWords": ("build", "Silent: no message, since str() of it raises RuntimeError"),
    "Endless": ("build", f"ValueError: {'x' * 2000} ... (52,428,800 characters in all)"),
    "Unprintable": ("build", f"ValueError: \\x1b[2J\\udcff\\x00{'/' * 1994} ... (60,006 characters in all)"),
    "EndlessExit": ("build", f"the code called exit({'y' * 2000} ... (52,428,800 characters in all))"),
    "InARing": ("build", "ValueError: the one"),
    "OddClass": ("build", "Odd name: odd, but told"),
    "FullElsewhere": ("build", f"OSError: {FULL}"),
    "Refused-EDQUOT": ("build", "OSError: [Errno 122] Disk quota exceeded"),
    "Refused-EIO": ("build", "OSError: [Errno 5] Input/output error"),
    "LimitsItsFiles-False": ("build", "OSError: [Errno 27] File too large"),
    "LimitsItsFiles-True": ("build", "OSError: [Errno 27] File too large"),
    "importing": ("build", "KeyboardInterrupt: said on import"),
}


def test_whatever_a_module_raises_is_its_own_row(
    harness: Call, put: Put, here: Path, spec: Callable[[str, str], Path]
) -> None:
    for name in ENDS:
        word, _, argument = name.partition("-")
        if word == "LimitsItsFiles":
            put(word, for_good=argument == "True")
        elif word == "Refused":
            put(word, number=argument)
        elif word != "importing":
            put(word)
    put("KilledByItsTimer")
    (here / "importing.py").write_text("raise KeyboardInterrupt('said on import')\n", encoding="utf-8")
    text = "harness: 1\nfactory: importing:Net\ncases: [{name: case, inputs: {x: {shape: [3]}}}]\n"
    spec("importing.yaml", text)
    ran = harness("run", "specs", *ON)
    assert ran.err == ""
    assert ran.code == 1
    found = told(ran)
    assert found.pop("KilledByItsTimer") == ("build", "crash", "the process was ended by SIGALRM")
    assert found == {name: (stage, "exception", said) for name, (stage, said) in ENDS.items()}
    assert ran.rows["good/case", "trace/torch-cpu"]["status"] == "passed"
    assert len((here / "reports/latest/report.json").read_bytes()) < 2**18


def test_what_a_module_does_to_processes_and_files_is_told_of_it_alone(harness: Call, put: Put) -> None:
    for name in ("KillsItsGroup", "StopsItsParent", "LeavesNoFiles"):
        put(name)
    ran = harness("run", "specs", *ON)
    assert (ran.code, ran.err) == (1, "")
    found = told(ran)
    assert found.pop("KillsItsGroup") == ("build", "crash", "the process was ended by SIGKILL")
    assert list(found) == ["LeavesNoFiles"]
    assert ran.rows["good/case", "trace/torch-cpu"]["status"] == "passed"


def test_what_a_check_started_is_ended_with_it(harness: Call, put: Put, here: Path) -> None:
    """Also where its parent is gone, it has a session of its own, and the worker was killed."""
    for then in ("return", "crash"):
        put("Daemon", then=then)
    for traced in (False, True):
        put("ForksAndReturns", traced=traced)
    put("StartsAndWaits")
    put("Watches")
    put("WritesTheJournal")
    ran = harness("run", "specs", *ON)
    assert told(ran) == {"Daemon-crash": ("build", "crash", "the process was ended by SIGSEGV")}
    notes = {row["case"].removesuffix("/case"): row["notes"] for row in ran.report["results"]}
    assert [name for name, said in notes.items() if "ended with it" in " ".join(said)] == [
        "Daemon-crash",
        "Daemon-return",
        "ForksAndReturns-False",
        "ForksAndReturns-True",
        "Watches",
    ]
    assert notes["Daemon-crash"] == notes["Daemon-return"] == notes["Watches"] == [ENDED]
    assert notes["StartsAndWaits"] == notes["WritesTheJournal"] == notes["good"] == []
    assert len(ran.rows) == len(ran.report["results"]) == 8
    pids = [int((here / then).read_text(encoding="utf-8")) for then in ("return", "crash")]
    assert not alive(psutil.Process(pid) for pid in pids if psutil.pid_exists(pid))


def test_a_time_limit_is_told_as_such_and_grows_with_the_model(
    harness: Call, put: Put, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the process takes to die, and where it gets round the kernel's limit."""
    monkeypatch.setattr(settings, "TIMEOUT", 2.0)
    monkeypatch.setattr(settings, "TIMEOUT_PER_GIB", 20.0)
    monkeypatch.setattr(slot, "GRACE", 0.5)
    put("DiesSlowly")
    put("Hangs", mib=64)
    put("Hangs", mib=0, deaf=True)
    put("Daemon", then="hang")
    ran = harness("run", "specs", *ON, "-j", "4")
    after = "not done after {} s; --timeout sets the limit"
    assert told(ran) == {
        "DiesSlowly": ("build", "timeout", after.format(2)),
        "Hangs-64": ("build", "timeout", after.format(4)),
        "Hangs-0-True": ("build", "timeout", after.format(2)),
        "Daemon-hang": ("build", "timeout", after.format(2)),
    }
    assert ran.rows["Daemon-hang/case", "trace/torch-cpu"]["notes"] == [ENDED]
    pid = int((here / "hang").read_text(encoding="utf-8"))
    assert not alive([psutil.Process(pid)] if psutil.pid_exists(pid) else [])


def test_a_time_limit_that_was_asked_for_holds_as_it_is(harness: Call, put: Put) -> None:
    put("Hangs", mib=64)
    ran = harness("run", "specs", *ON, "--timeout", "1")
    assert told(ran) == {"Hangs-64": ("build", "timeout", "not done after 1 s; --timeout sets the limit")}


@pytest.mark.parametrize("end", [Running.kill, Running.interrupt])
def test_what_checks_started_does_not_outlive_a_run_that_is_stopped(
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
    """Is interrupted by somebody at the keyboard, or says so itself."""

    def __init__(self, *, really: bool) -> None:
        super().__init__()
        self.really = really

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.really:
            raise KeyboardInterrupt("said by the module")
        os.kill(os.getpid(), signal.SIGINT)
        return x


def test_in_the_callers_own_process_a_real_interrupt_gets_through() -> None:
    verdict = api.verify(Interrupted(really=False), torch.ones(2), targets="trace/torch-cpu")
    assert [row.message for row in verdict.results] == ["KeyboardInterrupt: said by the module"]
    with pytest.raises(KeyboardInterrupt):
        api.verify(Interrupted(really=True), torch.ones(2), targets="trace/torch-cpu")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_explain_and_init_tell_it_too(harness: Call, put: Put) -> None:
    put("OwnBase")
    ran = harness("explain", "OwnBase", "--target", "trace/torch-cpu", "--allow-import")
    assert "Own: my reason" in ran.out
    assert "Traceback" not in ran.out + ran.err
    ran = harness("init", "misbehaving.py:Interrupts", "-o", "first.yaml")
    assert ran.code == 2
    assert "said by the module" in ran.err
    assert len(ran.err.splitlines()) == 1
