"""The dynamo exports of one subject share its programs, and every file is to the byte what it would be without."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter import _capture_strategies as strategies
from torch.onnx._internal.exporter import _core

from harness.errors import Unsupported
from harness.exporters import _dynamo_sharing as sharing
from harness.exporters import _levers, onnx_dynamo
from harness.model.build import Subject
from tests.exporting import export, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")

CAPTURE, PREPARE = "_capture", "_prepare_exported_program_for_export"
VARIANTS = ((18, False), (23, False), (23, True))
X = torch.linspace(-1, 1, 98).reshape(1, 2, 7, 7)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "every operator has a function": lambda: nn.Sequential(nn.AvgPool2d(2, divisor_override=3), nn.Linear(3, 2)),
    "several outputs": lambda: nn.MaxPool2d(2, return_indices=True),
    "something to decompose": lambda: nn.ReLU(inplace=True),
    "an operator of one opset alone": lambda: nn.RMSNorm(7),
    "an operator of the fixes alone": lambda: nn.RReLU().eval(),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often torch captures and prepares, counted where torch does it."""
    counts: Counter[str] = Counter()
    for owner, name in ((strategies.TorchExportNonStrictStrategy, CAPTURE), (_core, PREPARE)):
        monkeypatch.setattr(owner, name, _counting(getattr(owner, name), name, counts))
    return counts


def _counting(original: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    @wraps(original)  # a lever asks what the name takes
    def counted(*given: Any, **named: Any) -> Any:
        counts[name] += 1
        return original(*given, **named)

    return counted


def exports(given: Subject, folder: Path) -> Iterator[bytes | str]:
    for opset, fixes in VARIANTS:
        try:
            yield export(given, "onnx-dynamo", folder / "m.onnx", opset, fixes=fixes).path.read_bytes()
        except Unsupported as refusal:
            yield str(refusal)


@pytest.mark.parametrize("about", MODELS)
def test_files_and_refusals_are_to_the_byte_those_of_exports_apart(
    about: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = subject(MODELS[about]().eval(), [X])
    shared = list(exports(given, tmp_path))
    monkeypatch.setattr(onnx_dynamo, "sharing", lambda alone: nullcontext(alone.fresh()))
    assert shared == list(exports(given, tmp_path))


def test_one_capture_and_one_preparation_serve_every_opset_and_the_fixes(tmp_path: Path, calls: Counter[str]) -> None:
    list(exports(subject(MODELS["every operator has a function"]().eval(), [X]), tmp_path))
    assert calls == {CAPTURE: 1, PREPARE: 1}


def test_a_module_is_copied_once_for_all_exports_that_share_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: Counter[str] = Counter()
    monkeypatch.setattr(Subject, "fresh", _counting(Subject.fresh, "fresh", copies))
    list(exports(subject(MODELS["every operator has a function"]().eval(), [X]), tmp_path))
    assert copies == {"fresh": 1}


@pytest.mark.parametrize("about", ["something to decompose", "an operator of one opset alone"])
def test_a_program_is_prepared_anew_where_the_registry_could_make_a_difference(
    about: str, tmp_path: Path, calls: Counter[str]
) -> None:
    list(exports(subject(MODELS[about]().eval(), [X]), tmp_path))
    assert calls[CAPTURE] == 1
    assert calls[PREPARE] > 1


def test_another_subject_shares_nothing_and_nothing_outlives_its_subject(tmp_path: Path, calls: Counter[str]) -> None:
    module = nn.ReLU().eval()
    for _ in range(2):
        export(subject(module, [X]), "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert calls == {CAPTURE: 2, PREPARE: 2}
    gc.collect()
    assert not sharing._OF


def test_a_capture_that_fails_is_tried_again(tmp_path: Path) -> None:
    class Moody(nn.Module):
        refuses = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if Moody.refuses:
                raise RuntimeError("not today")
            return x + 1

    given = Subject(Moody().eval(), {"x": X}, 1)
    with pytest.raises(torch.onnx.OnnxExporterError):
        export(given, "onnx-dynamo", tmp_path / "m.onnx", 18)
    Moody.refuses = False
    assert export(given, "onnx-dynamo", tmp_path / "m.onnx", 18).path.exists()


def test_torch_is_left_as_it_was() -> None:
    def private_names() -> tuple[Any, ...]:
        return getattr(strategies.TorchExportNonStrictStrategy, CAPTURE), getattr(_core, PREPARE)

    before = private_names()
    with sharing.sharing(subject(nn.ReLU(), [X])):
        assert not set(before) & set(private_names())
    assert private_names() == before


def test_without_the_private_names_nothing_is_shared_and_exports_still_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_CAPTURE", (sharing._CAPTURE[0], "moved"))
    assert sharing.levers() == {"capture": False, "prepare": False}
    assert len(list(exports(subject(nn.ReLU().eval(), [X]), tmp_path))) == len(VARIANTS)
    assert _levers.present(()) == {}
