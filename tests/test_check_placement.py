"""Every result says where the nodes ran; nodes outside the requested provider fail it unless the target allows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.gate import apply_known_failures
from harness.registry import plugins
from harness.report.markdown import MarkdownReport
from harness.result import Report, Result, to_json
from harness.runtimes.onnxruntime import OnnxRuntime, library
from harness.runtimes.onnxruntime.library import CPU, Provider
from harness.runtimes.onnxruntime.session import OrtSession
from harness.spec.discovery import load_specs
from harness.spec.targets import Target

IDLE = Provider("idle", "AzureExecutionProvider", "a device")
"""Part of the CPU build. It takes no node of an ordinary model, like a provider without these operators."""

SPEC = """
harness: 1
cases:
  - {name: fine, layer: ReLU, inputs: {x: {shape: [2, 3]}}}
  - {name: divided, layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3}, inputs: {x: {shape: [1, 1, 4, 4]}}}
  - {name: unbatched, layer: MaxPool2d, args: {kernel_size: 2}, inputs: {x: {shape: [1, 4, 4]}}}
"""


@pytest.fixture
def on(spec: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``on("fine", "ort-idle", allow="cpu")``: the result of the case on that runtime."""
    if IDLE.ep not in library.load_onnxruntime().get_available_providers():
        pytest.skip(
            f"this onnxruntime is built without {IDLE.ep}, which this test uses as a provider that takes no node"
        )
    monkeypatch.setitem(plugins("runtimes"), "ort-idle", OnnxRuntime(IDLE))
    cases = {case.id: case for case in load_specs([spec("a.yaml", SPEC).parent]).cases}

    def check_on(name: str, runtime: str, **options: str) -> Result:
        prepared = PreparedCase(cases[f"a/{name}"], ArtifactCache(None, tmp_path))
        return check(
            prepared, Target("onnx-torchscript", runtime, 17, options=options), Settings(latency=False), Clock()
        )

    return check_on


def test_a_pass_outside_the_requested_provider_fails(on: Callable[..., Result]) -> None:
    row = on("fine", "ort-idle")
    assert (row.status, row.stage, row.symptom) == ("failed", "load", "placement")
    assert row.message == f"1 node ran outside {IDLE.ep}: Relu /Relu on {CPU}"
    assert row.placement == {"asked": IDLE.ep, "nodes": {CPU: {"Relu": 1}}, "stray": (f"Relu /Relu on {CPU}",)}
    verdict = apply_known_failures([row], [], versions={}, required=())
    assert verdict.exit_code == 1


def test_the_target_may_allow_it_and_the_result_still_names_the_provider(on: Callable[..., Result]) -> None:
    row = on("fine", "ort-idle", allow="cpu")
    assert row.status == "passed"
    assert row.target.endswith("/ort-idle?allow=cpu")
    assert row.placement == {"asked": IDLE.ep, "nodes": {CPU: {"Relu": 1}}, "stray": ()}


def test_a_wrong_answer_is_reported_before_its_placement(on: Callable[..., Result]) -> None:
    row = on("divided", "ort-idle")
    assert (row.status, row.symptom, row.blame) == ("failed", "mismatch", "exporter")
    assert row.placement is not None
    assert row.placement["stray"]


def test_a_result_without_an_answer_has_what_is_known(
    on: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    not_loaded = on("unbatched", "ort-cpu")
    assert (not_loaded.stage, not_loaded.placement) == ("load", None)
    assert not_loaded.checker, "the checker's message is most useful for a file that cannot be loaded"

    def refuses(_session: Any, _inputs: dict[str, np.ndarray[Any, Any]]) -> None:
        raise RuntimeError("no kernel for that")

    monkeypatch.setattr(OrtSession, "run", refuses)
    not_run = on("fine", "ort-cpu")
    assert (not_run.status, not_run.stage, not_run.message) == ("error", "run", "RuntimeError: no kernel for that")
    if not hasattr(library.load_onnxruntime().InferenceSession, "get_provider_graph_assignment_info"):
        assert not_run.placement is None, "an older onnxruntime shows the placement only after a run that answers"
        return
    assert not_run.placement is not None
    assert not_run.placement["nodes"] == {CPU: {"Relu": 1}}


def test_reports_show_every_placement(on: Callable[..., Result]) -> None:
    rows = (on("fine", "ort-idle"), on("fine", "ort-cpu"))
    assert [row["placement"]["nodes"] for row in to_json(rows)] == [{CPU: {"Relu": 1}}] * 2
    text = MarkdownReport().render(Report({}, rows))
    assert text.count(CPU) >= 2
    assert f"Ran outside the requested provider: Relu /Relu on {CPU}" in text
    assert "or allow it in the target (`?allow=cpu`)" in text
