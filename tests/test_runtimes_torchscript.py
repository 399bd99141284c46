"""TorchScript: flattened outputs, gradients, freezing, and process-wide settings that are restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import Unavailable, Unsupported
from harness.model.tensors import to_numpy, to_torch
from harness.registry import plugins
from harness.runtimes import Differentiable, Transferring
from harness.runtimes._torch_session import CudaSession, TorchSession
from harness.spec.language.case import Layout
from tests.runtime_models import scripted_file, torchscript_file

X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)


def torch_cpu() -> Any:
    return plugins("runtimes")["torch-cpu"]


class Nested(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, torch.Tensor]]:
        return x, [x + 1, x + 2], {"a": x + 3}


class Rank(nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        return x.dim()


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0, 4.0]))
        self.unused = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * self.scale * self.frozen, index


def test_nested_outputs_are_flattened_in_order(tmp_path: Path) -> None:
    session = torch_cpu().load(scripted_file(tmp_path / "n.pt", Nested()), {})
    outputs = session.run({"x": X})
    assert list(outputs) == ["output_0", "output_1", "output_2", "output_3"]
    for index, values in enumerate(outputs.values()):
        np.testing.assert_array_equal(values, X + index)


def test_an_output_that_is_not_a_tensor_is_unsupported(tmp_path: Path) -> None:
    session = torch_cpu().load(scripted_file(tmp_path / "c.pt", Rank()), {})
    with pytest.raises(Unsupported, match="an output has type int"):
        session.run({"x": X})


def test_inputs_are_bound_by_order_not_by_name(tmp_path: Path) -> None:
    class Minus(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    session = torch_cpu().load(torchscript_file(tmp_path / "m.pt", Minus(), *(torch.zeros(3),) * 2), {})
    outputs = session.run({"b": X, "a": X + 1})
    np.testing.assert_array_equal(outputs["output_0"], -np.ones_like(X))


def test_gradients_by_input_label_and_parameter_name(tmp_path: Path) -> None:
    example = torch.from_numpy(X), torch.arange(2)
    session = torch_cpu().load(torchscript_file(tmp_path / "g.pt", Mixed(), *example), {})
    assert isinstance(session, Differentiable)
    gradients = session.gradients({"data": X, "index": np.arange(2)})
    assert gradients.keys() == {"data", "scale", "unused", "frozen"}
    np.testing.assert_array_equal(gradients["data"], np.broadcast_to([2.0, 3.0, 4.0], X.shape))
    np.testing.assert_array_equal(gradients["scale"], X.sum(0))
    np.testing.assert_array_equal(gradients["frozen"], X.sum(0) * np.array([2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(gradients["unused"], np.zeros(2))


@pytest.mark.parametrize("script", [False, True])
def test_gradients_of_an_in_place_layer(script: bool, tmp_path: Path) -> None:
    layer = nn.LeakyReLU(0.5, inplace=True).eval()
    file = tmp_path / "p.pt"
    artifact = scripted_file(file, layer) if script else torchscript_file(file, layer, torch.from_numpy(X.copy()))
    x = X.copy()
    session = torch_cpu().load(artifact, {})
    np.testing.assert_array_equal(session.gradients({"x": x})["x"], np.where(X > 0, 1, 0.5))
    np.testing.assert_array_equal(x, X)


def test_gradients_between_runs_change_nothing(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2).eval()
    session = torch_cpu().load(torchscript_file(tmp_path / "l.pt", linear, torch.from_numpy(X)), {})
    before = session.run({"x": X})["output_0"]
    first, second = session.gradients({"x": X}), session.gradients({"x": X})
    assert first.keys() == {"x", "weight", "bias"}
    assert all(np.array_equal(first[name], second[name]) for name in first)
    session.bind({"x": X})()
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], before)


def test_an_output_without_a_gradient_is_unsupported(tmp_path: Path) -> None:
    class ArgMax(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax()

    session = torch_cpu().load(torchscript_file(tmp_path / "r.pt", ArgMax(), torch.from_numpy(X)), {})
    with pytest.raises(Unsupported, match="output_0 has no gradient"):
        session.gradients({"x": X})


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_the_module_gets_the_layout_of_the_array(layout: Layout, tmp_path: Path) -> None:
    class Strides(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor(x.stride())

    session = torch_cpu().load(scripted_file(tmp_path / "s.pt", Strides()), {})
    tensor = to_torch(np.ones((2, 3, 4, 5), np.float32), layout)
    assert tuple(session.run({"x": to_numpy(tensor)})["output_0"]) == tensor.stride()


def test_bfloat16_as_input_and_output(tmp_path: Path) -> None:
    x = np.array([1.0, -2.5, np.nan, np.inf], ml_dtypes.bfloat16)
    artifact = torchscript_file(tmp_path / "b.pt", nn.ReLU().eval(), torch.ones(4, dtype=torch.bfloat16))
    output = torch_cpu().load(artifact, {}).run({"x": x})["output_0"]
    assert output.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(output.astype(float), [1.0, 0.0, np.nan, np.inf])


def test_a_bound_call_of_an_in_place_layer_gets_the_same_inputs_each_time(tmp_path: Path) -> None:
    layer = nn.LeakyReLU(0.5, inplace=True).eval()
    session = torch_cpu().load(torchscript_file(tmp_path / "p.pt", layer, torch.from_numpy(X.copy())), {})
    assert "copies_inputs" not in session.facts()
    call: Any = session.bind({"x": X})
    assert session.facts()["copies_inputs"] is True
    first = call().clone()
    assert torch.equal(call(), first)


def test_threads_are_set_for_the_run_and_restored() -> None:
    thread_counts: list[int] = []

    def record(x: torch.Tensor) -> torch.Tensor:
        thread_counts.append(torch.get_num_threads())
        return x

    before = torch.get_num_threads()
    module: Any = record
    session = TorchSession(module, {"threads": str(before + 2)}, "cpu", "none")
    session.run({"x": X})
    assert torch.get_num_threads() == before
    call = session.bind({"x": X})
    call()
    torch.set_num_threads(before + 1)  # as another session does when it is timed alternately with this one
    call()
    session.close()
    assert torch.get_num_threads() == before
    assert set(thread_counts) == {before + 2}


def test_autograd_is_off_in_a_bound_call_and_on_after_it(tmp_path: Path) -> None:
    session = torch_cpu().load(torchscript_file(tmp_path / "l.pt", nn.Linear(3, 2).eval(), torch.from_numpy(X)), {})
    output: Any = session.bind({"x": X})()
    assert torch.is_grad_enabled()
    assert not output.requires_grad


@pytest.mark.parametrize("optimize", ["on", "off"])
def test_a_frozen_module_gives_the_same_outputs_and_reports_its_optimization(optimize: str, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    artifact = torchscript_file(tmp_path / "f.pt", module, torch.from_numpy(X))
    frozen = plugins("runtimes")["torch-frozen-cpu"].load(artifact, {"optimize": optimize})
    expected = torch_cpu().load(artifact, {}).run({"x": X})["output_0"]
    np.testing.assert_allclose(frozen.run({"x": X})["output_0"], expected, rtol=1e-6, atol=1e-6)
    assert ("optimize_for_inference" in frozen.facts()["optimization"]) == (optimize == "on")
    assert not isinstance(frozen, Differentiable)
    frozen.bind({"x": X})()


def test_a_module_in_training_mode_cannot_be_frozen(tmp_path: Path) -> None:
    artifact = torchscript_file(tmp_path / "t.pt", nn.Dropout().train(), torch.from_numpy(X))
    with pytest.raises(Unsupported, match="training mode cannot be frozen"):
        plugins("runtimes")["torch-frozen-cpu"].load(artifact, {})


def test_timing_does_not_change_running_statistics(tmp_path: Path) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.norm(x)
            assert self.norm.num_batches_tracked is not None
            return self.norm.num_batches_tracked + 0

    session = torch_cpu().load(scripted_file(tmp_path / "n.pt", Mean().train()), {})
    call = session.bind({"x": X})
    for _ in range(5):
        call()
    assert session.run({"x": X})["output_0"] == 1


def test_missing_cuda_is_unavailable_with_instructions(tmp_path: Path) -> None:
    runtime = plugins("runtimes")["torch-cuda"]
    available = runtime.availability()
    artifact = torchscript_file(tmp_path / "r.pt", nn.ReLU(), torch.from_numpy(X))
    if available.present:
        assert "output_0" in runtime.load(artifact, {}).run({"x": X})
    else:
        with pytest.raises(Unavailable, match=r"torch-cuda: .*(without CUDA; install with|no CUDA device; needs): "):
            runtime.load(artifact, {})


@pytest.mark.parametrize("tf32", ["on", "off"])
def test_tf32_is_set_during_a_run_only(tf32: str, tmp_path: Path) -> None:
    """Without a GPU: the module runs on the CPU and records the settings of torch.backends."""
    tf32_allowed: list[bool] = []

    def record(x: torch.Tensor) -> torch.Tensor:
        tf32_allowed.append(torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32)
        return x

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    module: Any = record
    session = CudaSession(module, {"threads": "1", "tf32": tf32}, "cpu", "none")
    session.run({"x": X})
    assert tf32_allowed == [tf32 == "on"]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert isinstance(session, Transferring)


def test_a_lowered_precision_of_products_stands_in_the_facts() -> None:
    session = TorchSession(nn.Linear(2, 2), {"threads": "1"}, "cpu", "none")
    assert session.facts()["precision"] == "as exported"
    torch.set_float32_matmul_precision("medium")
    try:
        assert session.facts()["precision"] == "as exported, float32 products in medium precision"
    finally:
        torch.set_float32_matmul_precision("highest")
