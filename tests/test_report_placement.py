"""The Markdown report shows where the nodes ran."""

from __future__ import annotations

from harness.report.markdown import MarkdownReport
from harness.result import Report, Result


def test_providers_and_strays_are_counted() -> None:
    nodes = {"CUDAExecutionProvider": {"MaxPool": 2}, "CPUExecutionProvider": {"Gather": 1}}
    placement = {"asked": "CUDAExecutionProvider", "nodes": nodes, "stray": ["Gather node_1"]}
    results = tuple(Result(f"a/{at}", "onnx-dynamo@23/ort-cuda", "passed", placement=placement) for at in range(2))
    text = MarkdownReport().render(Report({}, results))
    assert "## Where the nodes ran" in text
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "MaxPool 4" in line]
    assert cells == [["`onnx-dynamo@23/ort-cuda`", "`CUDAExecutionProvider`", "4", "MaxPool 4", "2"]]


def test_without_placement_there_is_no_such_section() -> None:
    assert "Where the nodes ran" not in MarkdownReport().render(
        Report({}, (Result("a/b", "trace/torch-cpu", "passed"),))
    )
