"""Large models: their copies share memory until one is changed, and float64 is reached one layer at a time.

They run in several threads. One further call shows that a user's module draws no random numbers and keeps no state.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import harness
from harness.check.recorded.protobufs import file_artifact
from harness.exporters import onnx_dynamo
from harness.model import running
from harness.model.build import Subject
from harness.model.precisions import run_in_float64_by_layer
from harness.model.running import first_call, repeated, run_module
from harness.model.tensors import LARGE_PARAMETER_BYTES, copy_module
from harness.spec.language.case import StoredModel

WIDTH = 512


class Tied(nn.Module):
    """A weight that two layers share, buffers, and a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, 20, bias=False)
        self.head.weight = self.embed.weight
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.mix(self.mix(self.norm(self.embed(tokens))))
        return torch.as_tensor(self.head(mixed))


class Borrowing(nn.Module):
    """A layer whose weight is used outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.layer.weight)


class Counting(nn.Module):
    """It changes a large weight at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(LARGE_PARAMETER_BYTES // 4), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.weight.add_(1)
        return x + self.weight[:4]


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Tied(), [torch.arange(8)]),
        (nn.TransformerEncoderLayer(WIDTH, 4, batch_first=True), [torch.randn(2, 5, WIDTH)]),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(), nn.Flatten()), [torch.randn(2, 3, 6, 6)]),
    ],
    ids=["tied", "attention", "convolution"],
)
def test_float64_layer_by_layer_is_the_whole_module_in_float64(
    module: nn.Module, inputs: Sequence[torch.Tensor]
) -> None:
    module.eval()
    wide = [each.double() if each.is_floating_point() else each for each in inputs]
    expected = run_module(copy_module(module).double(), wide, 0)
    by_layer = run_in_float64_by_layer(copy_module(module), wide, 0)
    if by_layer is None:  # attention reads the parameters of its parts itself
        assert isinstance(module, nn.TransformerEncoderLayer)
    else:
        assert torch.equal(by_layer[0], expected[0])
    assert all(each.dtype != torch.float64 for each in module.parameters())


def test_a_weight_that_is_used_outside_its_layer_needs_the_whole_module() -> None:
    assert run_in_float64_by_layer(Borrowing(), [torch.ones(1, WIDTH, dtype=torch.float64)], 0) is None


def test_a_change_of_a_large_weight_stays_in_its_copy() -> None:
    module = Counting()
    copied = copy_module(module)
    assert copied(torch.zeros(4))[0] == 1
    assert module.weight.sum() == 0
    module(torch.zeros(4))
    assert copied(torch.zeros(4))[0] == 2


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, in its exporter
def test_large_weights_are_in_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_dynamo, "EXTERNAL_DATA_BYTES", 1 << 10)
    module, x = nn.Linear(64, 64).eval(), torch.randn(2, 64)
    onnx_dynamo.OnnxDynamo().export(
        Subject(module, {"x": x}, outputs=1), tmp_path / "model.onnx", opset=None, fixes=False
    )
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert any(tensor.external_data for tensor in model.graph.initializer)
    sizes: list[int] = []
    file_artifact(StoredModel(str(tmp_path / "model.onnx"), "onnx"), sizes.append)
    assert max(sizes) == sum(file.stat().st_size for file in tmp_path.iterdir()) > 64 * 64 * 4
    targets = [
        "onnx-dynamo/ort-cpu",
        "onnx-dynamo/reference",
        "onnx-dynamo+slim/ort-cpu",
        "onnx-dynamo+optimized/ort-cpu",
    ]
    lowered = ["onnx-dynamo+fp16/ort-cpu", "onnx-dynamo+int8/ort-cpu"]
    harness.verify(module, x, targets=targets + lowered).assert_passed()


class Adding(nn.Module):
    """It adds what ``draw`` gives; with ``once`` what it gave at the first call."""

    def __init__(self, draw: Callable[[], float], *, once: bool = False) -> None:
        super().__init__()
        self.draw, self.once = draw, once
        self.calls, self.drawn = 0, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 1 or not self.once:
            self.drawn = self.draw()
        return x + self.drawn


class Accumulating(nn.Module):
    """It returns a buffer that the next call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.get_buffer("total")
        total += x
        return total


def torch_random() -> float:
    return float(torch.rand(()))


def numpy_random() -> float:
    return float(np.random.random())  # noqa: NPY002 - the global generator


def python_random() -> float:
    return random.random()


DRAWS = (torch_random, numpy_random, python_random)


@pytest.mark.parametrize(
    ("module", "stochastic", "keeps_state"),
    [
        (Adding(float), False, False),
        *((Adding(draw, once=once), True, False) for draw in DRAWS for once in (False, True)),
        (Adding(np.random.default_rng(0).random), False, True),
        (Adding(torch.tensor(1.0).mul_(2).item), False, False),
        (Accumulating(), False, True),
    ],
    ids=["neither", "torch", "torch once", "numpy", "numpy once", "python", "python once", "own", "constant", "state"],
)
def test_further_calls_show_random_numbers_and_state(module: nn.Module, stochastic: bool, keeps_state: bool) -> None:
    x = [torch.ones(4)]
    first = first_call(module, x, 7, watch_random=True)
    found = repeated(module, x, 7, first, may_keep_state=True)
    assert found.stochastic is stochastic
    assert (found.second_call is not None) is keeps_state
    assert torch.equal(x[0], torch.ones(4))


def test_one_further_call_is_enough_for_a_module_that_only_computes() -> None:
    calls = itertools.count()
    module = Adding(lambda: 0.0 * next(calls))
    first = first_call(module, [torch.ones(4)], 7, watch_random=True)
    assert repeated(module, [torch.ones(4)], 7, first, may_keep_state=True).second_call is None
    assert next(calls) == 2


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of 4 KiB is large, and there are two cores, of which torch uses one."""
    monkeypatch.setattr(running, "SEVERAL_THREADS_BYTES", 4 << 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1}, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


class Threads(nn.Module):
    """It returns the number of threads, in which ``noise`` makes it err if there are several."""

    def __init__(self, width: int, noise: Iterator[int] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.noise = noise

    def __deepcopy__(self, memo: dict[int, object]) -> Threads:
        return Threads(len(self.weight), self.noise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        threads = torch.get_num_threads()
        if self.noise is not None:
            return x + self.weight[:4] + (1e-3 * next(self.noise) if threads > 1 else 0)
        return x + threads


@pytest.mark.usefixtures("two_threads")
def test_a_large_module_runs_in_several_threads() -> None:
    x = [torch.zeros(4)]
    assert run_module(Threads(1 << 10), x, 0)[0][0] == 2
    assert run_module(Threads(4), x, 0)[0][0] == 1
    with pytest.raises(TypeError):
        run_module(Threads(1 << 10), [], 0)


@pytest.mark.usefixtures("two_threads")
def test_a_module_that_several_threads_make_noisy_is_judged_in_one() -> None:
    noise = itertools.count()
    harness.verify(Threads(1 << 10, noise), torch.zeros(4), targets=["trace/torch-cpu"]).assert_passed()
    assert next(noise)
