"""A row is the same whatever else the run does: other cases and targets, their order, the workers, and the cache."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Call

NETS = """
import torch
from torch import nn

TRACED = []

class Positive(nn.Module):
    def forward(self, x):
        return x[x > 0]

class ChangesDefaults(nn.Module):
    def __init__(self):
        super().__init__()
        torch.set_default_dtype(torch.float64)

    def forward(self, x):
        return x + torch.full((1,), 0.1)

class Remembers(nn.Module):
    # Tracing leaves something behind that a later export finds, as torch does for some layers.
    error = False

    def forward(self, x):
        if not torch.jit.is_tracing():
            return x + 1
        if not torch.onnx.is_in_onnx_export():
            TRACED.append(x)
        elif TRACED or self.error:
            raise RuntimeError(f"{bool(TRACED)} that the process traced it before")
        return x + 1

class AlwaysFails(Remembers):
    error = True
"""
OPEN = "inputs: {x: {shape: [2, 3, 2]}}, dynamic: {x: {0: N, 1: T}}, also: [{x: [4, 5, 2]}]"
UNPOOLED = "{x: {shape: [1, 1, 1, 1]}, indices: {dtype: int64, values: [[[[3]]]]}}"
NEGATIVE = "{x: {shape: [600], fill: {uniform: [-2, -1]}}}"
CASES = {
    "selects": "factory: 'nets:Positive', inputs: {x: {values: [-1.0, 2.0, 3.0]}}",
    "defaults": "factory: 'nets:ChangesDefaults', inputs: {x: {shape: [3]}}",
    "remembers": "factory: 'nets:Remembers', inputs: {x: {shape: [3]}}",
    "fails": "factory: 'nets:AlwaysFails', inputs: {x: {shape: [3]}}",
    "unpool": f"layer: MaxUnpool2d, args: {{kernel_size: 2}}, inputs: {UNPOOLED}",
    "random": f"layer: RReLU, mode: train, inputs: {NEGATIVE}, expect: {{formula: 'uniform(y / x, lower, upper)'}}",
    "refused": "layer: MaxPool2d, args: {kernel_size: 2, stride: 0}, expect: {raises: stride}",
}
RECURRENT = {
    "one": f"layer: LSTM, args: {{input_size: 2, hidden_size: 2, batch_first: true}}, {OPEN}",
    "another": f"layer: LSTM, args: {{input_size: 2, hidden_size: 3, batch_first: true}}, {OPEN}",
}
TARGETS = (
    "trace/torch-cpu",
    "script/torch-cpu",
    "onnx-torchscript@17/ort-cpu",
    "onnx-dynamo@18/ort-cpu",
    "onnx-dynamo@23/ort-cpu",
)
ON = ("--no-latency", "--allow-import")
Spec = Callable[[str, str], Path]
Rows = Mapping[tuple[str, str], Mapping[str, Any]]


@pytest.fixture(autouse=True)
def _nets(here: Path) -> None:
    (here / "nets.py").write_text(NETS, encoding="utf-8")


def write(spec: Spec, *names: str) -> None:
    cases = (f"  - {{name: {name}, {(CASES | RECURRENT)[name]}}}" for name in names)
    defaults = "defaults: {inputs: {x: {shape: [1, 1, 4, 4]}}}"
    spec("all.yaml", "\n".join(["harness: 1", defaults, "cases:", *cases]))


def run(harness: Call, targets: tuple[str, ...], *options: str) -> Rows:
    """The rows without what may differ: times, places of the case and the file, and what is said of other targets."""
    rows = harness("run", "specs", *ON, "--targets", ",".join(targets), *options).rows
    for row in rows.values():
        for name in ("seconds", "latency", "where", "artifact_path"):
            del row[name]
        row["evidence"] = [line for line in row["evidence"] if not line.startswith("the same case ")]
    return rows


def differing(first: Rows, other: Rows) -> dict[tuple[str, str], dict[str, tuple[Any, Any]]]:
    assert other
    fields = {key: {name: (first[key][name], row[name]) for name in row} for key, row in other.items()}
    changed = {key: {name: pair for name, pair in row.items() if pair[0] != pair[1]} for key, row in fields.items()}
    return {key: row for key, row in changed.items() if row}


def test_a_row_does_not_depend_on_other_checks_their_order_the_workers_or_the_cache(harness: Call, spec: Spec) -> None:
    write(spec, *CASES)
    first = run(harness, TARGETS, "-j", "1")
    statuses = {key: row["status"] for key, row in first.items()}
    assert statuses["all/selects", TARGETS[-1]] == "passed"
    assert statuses["all/unpool", "script/torch-cpu"] == statuses["all/defaults", TARGETS[-1]] == "error"
    generator = random.Random(17)
    for options in (("-j", "2"), ("-j", "1", "--no-cache", "--shard", "1/2"), ("-j", "2", "-k", "re")):
        write(spec, *generator.sample(list(CASES), len(CASES)))
        targets = tuple(generator.sample(TARGETS, generator.randint(2, len(TARGETS))))
        assert not differing(first, run(harness, targets, *options))


def test_a_recurrent_layer_with_open_axes_exports_after_another(harness: Call, spec: Spec) -> None:
    """torch's operators remember an implementation of the first export, with which the second one would fail."""
    write(spec, *RECURRENT)
    rows = run(harness, TARGETS[-1:], "-j", "1")
    assert {row["status"] for row in rows.values()} == {"passed"}
    assert not differing(rows, run(harness, TARGETS[-1:], "-j", "1", "--no-cache", "-k", "another"))


def test_an_export_that_fails_because_of_an_earlier_check_passes_alone(harness: Call, spec: Spec) -> None:
    write(spec, "remembers")
    rows = run(harness, (TARGETS[0], TARGETS[2]))
    assert {row["status"] for row in rows.values()} == {"passed"}


def test_an_export_that_fails_alone_too_fails_with_the_message_of_then(harness: Call, spec: Spec) -> None:
    write(spec, "fails")
    row = run(harness, (TARGETS[0], TARGETS[2]))["all/fails", TARGETS[2]]
    assert (row["status"], row["stage"]) == ("error", "export")
    assert "False that the process traced it before" in row["message"]


def test_only_the_answer_of_a_fresh_process_is_cached(harness: Call, spec: Spec) -> None:
    """A script that failed leaves state: another one of its kind then fails with another error."""
    write(spec, "unpool", "random")
    on = ("trace/torch-cpu", "script/torch-cpu")
    made, cached = (run(harness, on, "-j", "1")["all/unpool", "script/torch-cpu"] for _ in range(2))
    assert not differing({("", ""): made}, {("", ""): cached})
    assert "isIntList" in made["message"]
