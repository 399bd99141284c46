"""The stored statistics of normalisations are drawn, so that an export that drops or exchanges them is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.audit.audit import audit
from harness.model.build import build
from harness.reproduction import reproduction
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case
from harness.spec.targets import parse_target

Spec = Callable[[str, str], Path]
LAYERS = {
    "batch1d": "layer: BatchNorm1d, args: {num_features: 3}, inputs: {x: {shape: [4, 3]}}",
    "batch2d": "layer: BatchNorm2d, args: {num_features: 3}, inputs: {x: {shape: [2, 3, 4, 4]}}",
    "batch3d": "layer: BatchNorm3d, args: {num_features: 3}, inputs: {x: {shape: [2, 3, 2, 2, 2]}}",
    "sync": "layer: SyncBatchNorm, args: {num_features: 3}, inputs: {x: {shape: [4, 3]}}",
    "instance": "layer: InstanceNorm1d, args: {num_features: 3, track_running_stats: true}, "
    "inputs: {x: {shape: [2, 3, 4]}}",
    "inside": "sequential: [{layer: Tanh}, {layer: BatchNorm1d, args: {num_features: 3}}], "
    "inputs: {x: {shape: [4, 3]}}",
    "half": "layer: BatchNorm1d, dtype: float16, args: {num_features: 3}, inputs: {x: {shape: [4, 3]}}",
}


def load(spec: Spec, *cases: str, allow_import: bool = False) -> list[Case]:
    path = spec("norms.yaml", "\n  - ".join(["harness: 1\ncases:", *cases]) + "\n")
    return list(load_specs([str(path)], allow_import=allow_import).cases)


def buffers(case: Case) -> dict[str, torch.Tensor]:
    found = dict(build(case).module.named_buffers())
    return {name.rpartition(".")[2]: tensor.float() for name, tensor in found.items()}


@pytest.mark.parametrize("keys", LAYERS.values(), ids=list(LAYERS))
def test_statistics_are_drawn_and_variances_are_positive(spec: Spec, keys: str) -> None:
    (case,) = load(spec, f"{{name: a, {keys}}}")
    first, again = buffers(case), buffers(case)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(set(first["running_mean"].tolist())) == 3
    assert 0.5 <= float(first["running_var"].min()) < float(first["running_var"].max()) <= 2


def test_statistics_that_the_spec_names_are_kept(spec: Spec) -> None:
    (case,) = load(spec, f"{{name: a, {LAYERS['batch1d']}, weights: {{running_var: {{values: [1, 4, 9]}}}}}}")
    found = buffers(case)
    assert found["running_var"].tolist() == [1, 4, 9]
    assert all(found["running_mean"] != 0)


def test_a_factory_keeps_its_own_statistics(spec: Spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own_norms.py").write_text("from torch import nn\ndef net(): return nn.BatchNorm1d(3)\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    case = "{name: a, factory: 'own_norms:net', inputs: {x: {shape: [4, 3]}}}"
    found = buffers(load(spec, case, allow_import=True)[0])
    assert (found["running_mean"].tolist(), found["running_var"].tolist()) == ([0, 0, 0], [1, 1, 1])


def test_an_audit_kills_every_mutant_of_the_statistics(spec: Spec, tmp_path: Path) -> None:
    cases = load(spec, *(f"{{name: {name}, {LAYERS[name]}}}" for name in ("batch1d", "batch2d")))
    outcomes = [one for one in audit(cases, tmp_path).killable if "running" in one.mutant or "dentity" in one.mutant]
    assert {one.layer for one in outcomes} == {"BatchNorm1d", "BatchNorm2d"}
    assert all(one.killed for one in outcomes)


def test_a_script_draws_the_same_statistics(spec: Spec) -> None:
    case, plain = load(spec, f"{{name: a, {LAYERS['inside']}}}", "{name: b, layer: ReLU, inputs: {x: {shape: [3]}}}")
    target = parse_target("onnx-dynamo@18/ort-cpu")
    script = reproduction(case, target) or ""
    assert "running_var" not in (reproduction(plain, target) or "running_var")
    building = script[script.index("torch.manual_seed") : script.index("model.eval()")]
    scope: dict[str, nn.Module] = {}
    exec(building, {"torch": torch, "nn": nn}, scope)
    theirs = dict(scope["model"].named_buffers())
    ours = dict(build(case).module.named_buffers())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
