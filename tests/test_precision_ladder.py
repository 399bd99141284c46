"""``harness ladder``: one row for each precision and runtime, with what it costs or why it is not here."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.precision.chart import Chart, Mark, Series, svg
from harness.precision.model import ModelQuestion, prepared_model
from tests.conftest import Call
from tests.precision_models import even_weights, outlier_weights, write_chain, write_samples


def rows(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    return {row["word"]: row for row in found["rungs"]}


def test_each_precision_of_a_file_is_a_row_with_error_decisions_latency_and_size(harness: Call, here: Path) -> None:
    write_chain(here / "net.onnx", even_weights(2))
    write_samples(here / "samples")
    words = ["ort-cpu", "+fp16/ort-cpu", "+int8/ort-cpu", "+int8-static/ort-cpu", "ort-cpu?optimization=disabled"]
    words += ["ort-cuda?tf32=on"]
    ran = harness("ladder", "net.onnx", "--inputs", "samples", "--targets", ",".join(words), "-o", "out")
    assert ran.code == 0, ran.err
    assert "Errors are against the file evaluated in float64." in ran.out
    assert "6 rungs x 3 samples" in ran.err
    found = rows(here / "out")
    ratios = [found[word]["measure"]["sqnr"] for word in words[:4]]
    assert ratios[0] > 120 > ratios[1] > 60 > ratios[2] > ratios[3] > 25
    assert [found[word]["precision"] for word in words] == ["fp32", "fp16", "int8", "int8-static", "fp32", "tf32"]
    assert found["+int8/ort-cpu"]["bytes"] < found["+fp16/ort-cpu"]["bytes"] < found["ort-cpu"]["bytes"]
    assert all(found[word]["latency"]["median_us"] > 0 for word in words[:5])
    assert all(found[word]["measure"]["decisions"]["of"] == 12 for word in words[:5])
    if found["ort-cuda?tf32=on"]["status"] != "measured":
        assert found["ort-cuda?tf32=on"]["status"] == "unavailable"
        assert "tf32 on ort-cuda?tf32=on: unavailable: ort-cuda: " in ran.out
    picture = ET.parse(here / "out" / "ladder.svg").getroot()
    titles = [each.text or "" for each in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("on +fp16/ort-cpu: " in title for title in titles) == 1


def test_every_sample_counts_once_however_many_there_are(harness: Call, here: Path) -> None:
    write_chain(here / "net.onnx", even_weights(2))
    write_samples(here / "samples", 35)
    words = ("ladder", "net.onnx", "--inputs", "samples", "--targets", "ort-cpu", "-o", "out")
    for more, count in ((), 35), (("--samples", "20"), 20):
        ran = harness(*words, *more)
        assert f"x {count} samples" in ran.err
        assert rows(here / "out")["ort-cpu"]["measure"]["decisions"]["of"] == 4 * count
    (here / "prepared").mkdir()
    model = prepared_model(ModelQuestion("net.onnx", here, inputs=("samples",), samples=34), here / "prepared")
    assert [sample.name for sample in model.samples] == [f"{number}.npz" for number in range(34)]


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(x)
"""


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_a_callable_has_the_rows_of_pytorch_and_the_usual_ones_of_what_is_here(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(NET, encoding="utf-8")
    ran = harness("ladder", "net.py:Net", "--shape", "x=2,32", "--exporter", "onnx-torchscript", "--samples", "2")
    assert ran.code == 0, ran.err
    assert "Errors are against PyTorch in float64." in ran.out
    found = rows(here / "reports" / "ladder")
    half, brain = found["eager+fp16/torch-cpu"], found["eager+bf16/torch-cpu"]
    assert (half["computes_in"], brain["computes_in"]) == ("float16, eager", "bfloat16, eager")
    assert 20 < brain["measure"]["sqnr"] < half["measure"]["sqnr"] < found["eager/torch-cpu"]["measure"]["sqnr"]
    assert 2 * half["bytes"] == found["eager/torch-cpu"]["bytes"]
    # What OpenVINO computes in by default is a row of its own, with the precision that it says.
    assert "floats in float32" in found["openvino"]["computes_in"]
    assert "floats in " in found["openvino?precision=default"]["computes_in"]
    assert {"tf32", "fp32", "fp16", "bf16", "int8", "default"} == {row["precision"] for row in found.values()}
    assert not any("int8-static" in word for word in found)  # no samples were given


def test_a_rung_that_fails_is_a_row_and_nothing_measured_is_an_error(harness: Call, here: Path) -> None:
    write_chain(here / "net.onnx", outlier_weights(2, 1))
    ran = harness("ladder", "net.onnx", "--targets", "ort-cpu,+opset99/ort-cpu", "-o", "out", "--samples", "1")
    assert ran.code == 0, ran.err
    assert rows(here / "out")["+opset99/ort-cpu"]["status"] == "failed"
    assert "fp32 on +opset99/ort-cpu: failed: +opset99: " in ran.out
    mistakes = {
        "+opset99/ort-cpu": "no rung can be measured: +opset99/ort-cpu: ",
        "ort-cpux": "no runtime ort-cpux",
        "torch-cpu": "torch-cpu does not run ONNX; the module itself is eager/torch-cpu",
        "eager/torch-cpu": "a file has no module for eager; name the callable that it comes from",
    }
    for word, message in mistakes.items():
        ran = harness("ladder", "net.onnx", "--targets", word, "-o", "out", "--samples", "1")
        assert (ran.code, ran.out, message in ran.err) == (2, "", True), ran


def test_a_chart_draws_each_mark_and_shows_what_is_off_the_scale() -> None:
    marks = [
        Mark(1.0, 40.0, "a < b", "label"),
        Mark(10.0, float("-inf"), "destroyed"),
        Mark(100.0, float("inf"), "equal"),
    ]
    chart = Chart("a & b", "x", "y", [Series("one", marks, line=True), Series("", [])], [(35.0, "target")], log_x=True)
    root = ET.fromstring(svg(chart))
    space = "{http://www.w3.org/2000/svg}"
    assert [each.text for each in root.iter(f"{space}title")] == ["a < b", "destroyed", "equal"]
    texts = {each.text for each in root.iter(f"{space}text")}
    assert {"a & b", "x", "y", "one", "label", "target", "1", "10", "100"} <= texts
    numbers = [float(each.get("y") or 0) for each in root.iter(f"{space}text")]
    assert all(0 <= number <= 380 for number in numbers)
    assert ET.fromstring(svg(Chart("", "x", "y", [Series("", [Mark(2.0, 2.0, "alone")])]))) is not None
