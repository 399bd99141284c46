"""The dynamo exports of one subject share its programs, and the files are the same bytes as without sharing."""

from __future__ import annotations

import gc
import warnings
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
from harness.exporters import _dynamo_sharing, _speed_ups, onnx_dynamo
from harness.model.build import Subject
from tests.exporting import export, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")

CAPTURE, PREPARE = "_capture", "_prepare_exported_program_for_export"
VARIANTS = ((18, False), (23, False), (23, True))
X = torch.linspace(-1, 1, 98).reshape(1, 2, 7, 7)


class Positive(nn.Module):
    """The number of outputs depends on the values of the inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The positive elements."""
        return x[x > 0]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "functions for all operators": lambda: nn.Sequential(nn.AvgPool2d(2, divisor_override=3), nn.Linear(3, 2)),
    "several outputs": lambda: nn.MaxPool2d(2, return_indices=True),
    "decomposed operator": lambda: nn.ReLU(inplace=True),
    "operator of one opset only": lambda: nn.RMSNorm(7),
    "operator of the fixes only": lambda: nn.RReLU().eval(),
    "size that depends on values": Positive,
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The number of calls of torch's functions that capture and prepare."""
    counts: Counter[str] = Counter()
    for owner, name in ((strategies.TorchExportNonStrictStrategy, CAPTURE), (_core, PREPARE)):
        monkeypatch.setattr(owner, name, _counting(getattr(owner, name), name, counts))
    return counts


def _counting(original: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    @wraps(original)  # a speed-up compares the parameters
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        return original(*args, **kwargs)

    return counted


def export_variants(example: Subject, folder: Path) -> Iterator[bytes | str]:
    """The bytes of the file, or the text of the refusal, for each variant."""
    for opset, fixes in VARIANTS:
        try:
            yield export(example, "onnx-dynamo", folder / "m.onnx", opset, fixes=fixes).path.read_bytes()
        except Unsupported as refusal:
            yield str(refusal)


@pytest.mark.parametrize("kind", MODELS)
def test_files_and_refusals_are_the_same_bytes_as_without_sharing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = subject(MODELS[kind]().eval(), [X])
    shared = list(export_variants(example, tmp_path))
    monkeypatch.setattr(onnx_dynamo, "shared_programs", lambda example: nullcontext(example.fresh()))
    assert shared == list(export_variants(example, tmp_path))


def test_one_capture_and_one_preparation_serve_all_opsets_and_fixes(tmp_path: Path, calls: Counter[str]) -> None:
    list(export_variants(subject(MODELS["functions for all operators"]().eval(), [X]), tmp_path))
    assert calls == {CAPTURE: 1, PREPARE: 1}


def test_a_program_that_depends_on_values_is_not_shared(tmp_path: Path, calls: Counter[str]) -> None:
    example = subject(Positive().eval(), [X])
    assert all(isinstance(file, bytes) for file in export_variants(example, tmp_path))
    assert calls == {CAPTURE: len(VARIANTS), PREPARE: len(VARIANTS)}
    assert _speed_ups.disabled_reasons(()) == {}
    assert not any(_dynamo_sharing.disabled_reasons().values())


def test_the_warnings_of_a_shared_program_are_shown_for_each_export(tmp_path: Path) -> None:
    class Warns(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            warnings.warn("of the capture", UserWarning, stacklevel=1)
            return x + 1

    example = Subject(Warns().eval(), {"x": X}, 1)
    for opset in (18, 23):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            export(example, "onnx-dynamo", tmp_path / "m.onnx", opset)
        assert "of the capture" in [str(warning.message) for warning in caught]


def test_a_module_is_copied_once_for_exports_that_share_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: Counter[str] = Counter()
    monkeypatch.setattr(Subject, "fresh", _counting(Subject.fresh, "fresh", copies))
    list(export_variants(subject(MODELS["functions for all operators"]().eval(), [X]), tmp_path))
    assert copies == {"fresh": 1}


@pytest.mark.parametrize("kind", ["decomposed operator", "operator of one opset only"])
def test_a_program_is_prepared_again_if_the_registry_could_change_it(
    kind: str, tmp_path: Path, calls: Counter[str]
) -> None:
    list(export_variants(subject(MODELS[kind]().eval(), [X]), tmp_path))
    assert calls[CAPTURE] == 1
    assert calls[PREPARE] > 1


def test_programs_are_not_shared_between_subjects_and_do_not_outlive_theirs(
    tmp_path: Path, calls: Counter[str]
) -> None:
    module = nn.ReLU().eval()
    for _ in range(2):
        export(subject(module, [X]), "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert calls == {CAPTURE: 2, PREPARE: 2}
    gc.collect()
    assert not _dynamo_sharing._PROGRAMS


def test_a_failed_capture_is_tried_again(tmp_path: Path) -> None:
    class FailsAtFirst(nn.Module):
        fails = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if FailsAtFirst.fails:
                raise RuntimeError("fails at first")
            return x + 1

    example = Subject(FailsAtFirst().eval(), {"x": X}, 1)
    with pytest.raises(torch.onnx.OnnxExporterError):
        export(example, "onnx-dynamo", tmp_path / "m.onnx", 18)
    FailsAtFirst.fails = False
    assert export(example, "onnx-dynamo", tmp_path / "m.onnx", 18).path.exists()


def test_torch_is_restored_after_sharing() -> None:
    def private_names() -> tuple[Any, ...]:
        return getattr(strategies.TorchExportNonStrictStrategy, CAPTURE), getattr(_core, PREPARE)

    before = private_names()
    with _dynamo_sharing.shared_programs(subject(nn.ReLU(), [X])):
        assert not set(before) & set(private_names())
    assert private_names() == before


def test_without_the_private_names_nothing_is_shared_and_exports_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dynamo_sharing, "_CAPTURE", (_dynamo_sharing._CAPTURE[0], "moved"))
    assert _dynamo_sharing.enabled() == {"capture": False, "prepare": False}
    assert len(list(export_variants(subject(nn.ReLU().eval(), [X]), tmp_path))) == len(VARIANTS)
    assert _speed_ups.enabled(()) == {}
