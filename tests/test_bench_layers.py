"""``harness bench --layers`` shows where the time goes, and ``--gate`` holds load, first run and memory."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from rich.console import Console

from harness.engine.bench.process import with_modules
from harness.report.diff import Diff, diff, verdict_of
from harness.report.diff.start import StartFigure
from harness.report.diff.text import show_diff
from harness.result import Report, Result
from harness.runtimes import NodeTimes
from harness.runtimes._profiles import Event, node_times
from tests.conftest import Call
from tests.report_samples import AGREES

NET = """\
harness: 1
sequential:
  - {layer: Conv2d, args: {in_channels: 1, out_channels: 4, kernel_size: 3}}
  - {layer: Flatten}
  - {layer: Linear, args: {in_features: 144, out_features: 3}}
cases:
  - name: net
    inputs: {x: {shape: [1, 1, 8, 8]}}
"""
SHORT = ("--processes", "1", "--rounds", "3", "--budget", "0.05", "-j", "1")
Write = Callable[[str, str], Path]


LISTS = """
from torch import nn


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU())])
        self.second = nn.ModuleList([nn.ModuleList([nn.Linear(3, 3)]), nn.Sequential(nn.Linear(3, 3))])

    def forward(self, x):
        return self.second[1](self.first[1](x)) + self.second[0][0](self.first[0](x))
"""


def test_layers_of_torchscript_in_lists_have_their_whole_path(harness: Call, spec: Write, here: Path) -> None:
    (here / "nets.py").write_text(LISTS, encoding="utf-8")
    spec("net.yaml", "harness: 1\nfactory: nets:Lists\ncases: [{name: net, inputs: {x: {shape: [2, 3]}}}]\n")
    options = ("--allow-import", "--targets", "trace/torch-cpu", "--layers", "--format", "json", *SHORT)
    rows = harness("bench", "specs", *options).only["latency"]["nodes"]["rows"]
    ambiguous = {"0", "1.0"}  # torch calls first.0 and second.0.0 alike, and first.1.0 and second.1.0
    assert {row["module"] for row in rows} == {"", "first.1.1", *ambiguous}


def test_fused_nodes_and_layers_of_one_name_have_their_layer(tmp_path: Path) -> None:
    parts = (("/conv/Conv", "c"), ("/conv/Relu", "r"), ("/norm/Mul", "n0"), ("/norm_1/Mul", "n1"), ("/norm_2/Mul", "y"))
    names = ["x", *(output for _, output in parts)]
    nodes = [
        helper.make_node(name.rpartition("/")[2], [read, read], [output], name=name)
        for (name, output), read in zip(parts, names, strict=False)
    ]
    ends = [helper.make_tensor_value_info(name, 1, None) for name in ("x", "y")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:])), str(tmp_path / "net.onnx"))
    timed = ("r_nchwc", "/norm/Mul", "/norm_1/Mul", "/norm_2/Mul", "ReorderOutput")
    times = [NodeTimes(name, "", us=(1.0,)) for name in timed]
    called = ["", "conv", "layers.0.norm", "layers.1.norm", "norm"]
    found = with_modules(times, tmp_path / "net.onnx", called)
    assert [each.module for each in found] == ["conv", "layers.0.norm", "layers.1.norm", "norm", ""]


def test_the_time_of_a_call_is_told_by_node_operator_and_layer(harness: Call, spec: Write, here: Path) -> None:
    spec("net.yaml", NET)
    targets = "onnx-dynamo/ort-cpu,trace/torch-cpu,onnx-dynamo/reference"
    ran = harness("bench", "specs", "--targets", targets, "--layers", "--format", "json,md,layers", *SHORT)
    assert ran.code == 0, ran.err
    assert "--format layers: nothing to write, no layer was compared; harness run --layers compares them" in ran.err
    ort = ran.rows["net/net", "onnx-dynamo/ort-cpu"]["latency"]["nodes"]
    script = ran.rows["net/net", "trace/torch-cpu"]["latency"]["nodes"]
    assert {"Conv", "Gemm"} <= {row["operator"] for row in ort["rows"]}
    assert {row["node"]: row["module"] for row in ort["rows"]}["node_linear"] == "2"
    assert [row["module"] for row in script["rows"]] == ["0", "1", "2"]
    assert [row["operator"] for row in script["eager_rows"]] == ["Conv2d", "Flatten", "Linear"]
    for nodes in (ort, script):
        assert nodes["sum_us"] > 0
        assert all(row["us"] >= 0 for row in nodes["rows"])
        assert json.loads((here / "reports" / "latest" / nodes["trace"]).read_text("utf-8"))
    (note,) = ran.rows["net/net", "onnx-dynamo/reference"]["notes"]
    assert note == "nodes not timed: reference does not say how long each node takes"
    assert "Where the time goes in net/net on onnx-dynamo/ort-cpu: " in ran.out
    text = (here / "reports" / "latest" / "report.md").read_text("utf-8")
    assert "### Where the time goes" in text
    assert set(ran.rows["net/net", "trace/torch-cpu"]["latency"]["start"]) >= {"load_s", "first_run_s"}


def event(name: str, begin: float, end: float) -> Event:
    return Event(NodeTimes(name, name), begin, end)


def test_nodes_inside_a_node_are_its_own_time() -> None:
    events = [event("inner", 2, 4), event("If", 1, 5), event("Add", 5, 6), event("If", 11, 14), event("Add", 14, 17)]
    found = node_times(events, [(0, 10), (10, 20)])
    assert [(each.node, each.us) for each in found] == [("If", (4, 3)), ("Add", (1, 3))]


def test_runs_of_different_nodes_are_summed_by_name() -> None:
    events = [event("a", 1, 2), event("a", 3, 4), event("b", 11, 15)]
    found = node_times(events, [(0, 10), (10, 20)])
    assert [(each.node, each.us) for each in found] == [("a", (2, 0)), ("b", (0, 4))]


def report(load_s: float = 1.0, peak_mb: float = 50.0, conv_us: float = 10.0) -> Report:
    spread = [1 + 0.001 * number for number in range(10)]
    start = {
        "load_s": {"samples": [load_s * each for each in spread]},
        "peak_mb": {"samples": [peak_mb * each for each in spread]},
    }
    rows = [
        {"node": name, "operator": name, "module": "", "us": us, "low_us": 0.99 * us, "high_us": 1.01 * us}
        for name, us in (("Conv", conv_us), ("Relu", 1.0))
    ]
    latency: dict[str, Any] = {"median_us": 11.0, "device": "cpu", "start": start, "nodes": {"rows": rows}}
    return Report({}, (Result("a/b", "trace/torch-cpu", "passed", outputs=(AGREES,), latency=latency),))


@pytest.mark.parametrize(
    ("changed", "gate", "sentence"),
    [
        (report(load_s=2.0), ("load",), "Regressed: 1 slower to load."),
        (report(load_s=2.0), ("memory",), "No regression."),
        (report(load_s=2.0), (), "No regression."),
        (report(load_s=0.5), ("load",), "No regression."),
        (report(peak_mb=60.0), ("load", "memory"), "Regressed: 1 with more peak memory."),
        (report(), ("first",), "Regressed: first is gated and not in both reports; measure both with harness bench."),
    ],
)
def test_a_gate_holds_what_it_names(changed: Report, gate: tuple[StartFigure, ...], sentence: str) -> None:
    found: Diff = diff(report(), changed, gate=gate)
    assert verdict_of(found) == sentence
    assert found.regressed == sentence.startswith("Regressed")


@pytest.mark.parametrize("condition", [{"iobinding": "off"}, {"tf32": True}, {"threads": 2}])
def test_figures_under_other_conditions_are_not_compared(condition: dict[str, Any]) -> None:
    (slower,) = report(load_s=2.0).results
    changed = replace(report(), results=(replace(slower, latency={**(slower.latency or {}), **condition}),))
    assert diff(report(), changed, gate=("load",)).start == ()


def test_the_node_that_became_slower_is_named() -> None:
    (change,) = diff(report(), report(conv_us=13.0)).nodes
    assert (change.node, change.difference_us) == ("Conv", 3.0)
    assert diff(report(), report(conv_us=10.1)).nodes == ()


def test_the_tables_say_what_is_gated_and_what_could_be() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    show_diff(diff(report(), report(load_s=2.0, peak_mb=60.0, conv_us=13.0), gate=("load",)), console)
    text = console.export_text()
    assert "not gated; --gate memory gates it" in text
    assert "+3" in text
    assert "Regressed: 1 slower to load." in text


def test_what_a_gate_compared_is_counted_and_what_nobody_knows_is_shown() -> None:
    noisy = report()
    assert noisy.results[0].latency is not None
    noisy.results[0].latency["start"]["peak_mb"]["samples"] = [40.0, 65.0]
    console = Console(width=200, record=True, file=io.StringIO())
    show_diff(diff(report(), noisy, gate=("load", "memory")), console)
    text = console.export_text()
    assert "Load: 1 no change.\nPeak memory: 1 inconclusive.\nNo regression." in text
    assert "memory" in text.partition("Parity")[0]


def test_a_gate_needs_something_to_compare_with(harness: Call, spec: Write) -> None:
    spec("net.yaml", NET)
    assert harness("bench", "specs", "--gate", "load").code == 2
    ran = harness("bench", "specs", "--gate", "speed", "--baseline", "x.json")
    assert (ran.code, "--gate speed: no such figure; name any of load, first, memory" in ran.err) == (2, True)
