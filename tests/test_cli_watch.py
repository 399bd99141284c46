"""``harness run --watch``: after a save, what changed runs again, and nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli._watch import Watched
from harness.pipeline import Request
from tests.conftest import Call
from tests.running import Running, report_in

Write = Callable[[str, str], Path]
RELU = """
harness: 1
layer: ReLU
cases:
  - {name: first, inputs: {x: {values: [1.0, -2.0]}}, expect: {range: [0, 1]}}
  - {name: second, inputs: {x: {values: [1.0, -2.0]}}, expect: {range: [0, 1]}}
"""
NET = "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return x * 2\n"
FACTORY = """
harness: 1
factory: net:Net
cases:
  - {name: doubled, inputs: {x: {values: [1.0]}}, expect: {outputs: [{values: [2.0]}]}}
"""

SERVERS = 2
"""The processes of a run that are no workers: the server that forks them, and multiprocessing's resource tracker."""


def statuses(here: Path) -> dict[str, str]:
    """The statuses of the last report, by case; empty while it is being written."""
    try:
        return {row["case"]: row["status"] for row in report_in(here / "reports/latest")["results"]}
    except FileNotFoundError:
        return {}


def test_a_save_runs_what_changed_again_until_the_watch_is_ended(spec: Write, here: Path) -> None:
    relu = spec("relu.yaml", RELU)
    spec("net.yaml", FACTORY)
    (here / "net.py").write_text(NET, encoding="utf-8")
    words = ("run", "specs", "--targets", "trace/torch-cpu", "--watch", "--allow-import", "--format", "json")
    watching = Running(here, *words)
    passed = dict.fromkeys(("relu/first", "relu/second"), "passed")
    watching.until(lambda: statuses(here) == {"net/doubled": "passed", **passed})
    before = len(watching.journal())
    processes = watching.started()

    relu.write_text(RELU.replace("[0, 1]}}\n", "[0, 0.5]}}\n", 1), encoding="utf-8")
    watching.until(lambda: statuses(here) == {**passed, "relu/first": "failed"})
    assert len(watching.journal()) == before + 1, "the case that did not change is not run again"
    assert sum(process in processes for process in watching.started()) > SERVERS, "no worker waited for the save"

    relu.write_text("harness: 2\n", encoding="utf-8")
    relu.write_text(RELU, encoding="utf-8")
    watching.until(lambda: statuses(here) == passed)

    (here / "net.py").write_text(NET.replace("x * 2", "x * 3"), encoding="utf-8")
    watching.until(lambda: statuses(here) == {"net/doubled": "failed"})

    spec("known-failures.yaml", "- {cases: net/*, targets: '*', stage: compare, symptom: mismatch, reason: so}\n")
    watching.until(lambda: statuses(here) == {"net/doubled": "known", **passed})

    watching.send(signal.SIGINT, group=True)
    code, out, err = watching.end()
    assert code == 130
    assert out.count("All as expected") >= 2, "the last run may end before it has printed its verdict"
    assert "watching 3 files, Ctrl-C ends" in err


def test_a_save_runs_every_case_that_is_named_of_the_file(spec: Write) -> None:
    relu = spec("relu.yaml", RELU)
    named = ("specs/relu.yaml::first", "specs/relu.yaml::second")
    watched = Watched(Request(paths=named))
    relu.write_text(RELU + "\n", encoding="utf-8")
    assert watched.next_change().paths == named


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "ray"), "--watch runs on this machine; leave --engine ray out"),
        (("--targets", "zzz"), "no target set named 'zzz'"),
    ],
)
def test_a_wrong_request_is_not_watched(harness: Call, spec: Write, words: tuple[str, ...], message: str) -> None:
    spec("relu.yaml", RELU)
    ran = harness("run", "specs", "--watch", *words)
    assert ran.code == 2
    assert message in ran.err
