"""The tables that dynamo exports share change no export, stay out of torch's way, and notice when torch changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch.export import decomp_utils, exported_program
from torch.onnx._internal.exporter import _decomp, _registration

from harness.exporters import _dynamo_cache as preparation
from harness.exporters import _dynamo_cache as speed
from harness.exporters import _dynamo_sharing as sharing
from harness.exporters import _levers
from harness.fixes import translation_table
from harness.model.build import Subject
from tests.exporting import answers, subject
from tests.exporting import export as registered_export

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")

MODELS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AvgPool2d(2)), (1, 3, 8, 8)),
    (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Softmax(-1)), (2, 4)),
]


def exported(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> bytes:
    """The bytes of a stock export."""
    torch.onnx.export(
        module.eval(), (torch.ones(shape),), path, dynamo=True, external_data=False, verbose=False, **options
    )
    return path.read_bytes()


def private_names() -> list[object]:
    """What the levers replace, as it is now."""
    return [
        vars(_registration.ONNXRegistry)["from_torchlib"],
        vars(vars(_registration)["onnxscript_apis"]).get("get_torchlib_ops"),
        vars(exported_program)["_collect_all_valid_cia_ops"],
        vars(exported_program)["_override_composite_implicit_decomp"],
        vars(exported_program)["_split_decomp_table_to_cia_and_python_decomp"],
        vars(decomp_utils)["_collect_all_valid_cia_ops"],
        _decomp.create_onnx_friendly_decomposition_table,
    ]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> _levers._Switch:
    """The switch of all levers, as in a new process."""
    fresh = _levers._Switch()
    monkeypatch.setattr(_levers, "_SWITCH", fresh)
    return fresh


def with_lever(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    changed = tuple(lever._replace(**changes) if lever.name == name else lever for lever in speed._LEVERS)
    monkeypatch.setattr(speed, "_LEVERS", changed)


def test_every_lever_holds_for_the_releases_it_was_written_for() -> None:
    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    off = {name: why for name, why in (speed.why_off() | sharing.why_off()).items() if why is not None}
    if not (2, 9) <= release <= (2, 15):
        pytest.skip(f"the levers were tried with torch 2.9 to 2.15; with {torch.__version__} are off: {off}")
    assert not off


@pytest.mark.parametrize(("module", "shape"), MODELS)
def test_an_export_is_the_same_to_the_byte_with_and_without(
    module: nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    stock = exported(module, shape, tmp_path / "m.onnx", opset_version=20)
    before = private_names()
    with speed.quick():
        first = exported(module, shape, tmp_path / "m.onnx", opset_version=20)
        assert private_names() != before
    with speed.quick():
        again = exported(module, shape, tmp_path / "m.onnx", opset_version=20)
    assert private_names() == before
    assert stock == first == again


def test_a_failure_inside_leaves_torch_as_it_was() -> None:
    before = private_names()
    with pytest.raises(torch.onnx.OnnxExporterError), speed.quick():
        torch.onnx.export(nn.RReLU().eval(), (torch.ones(2),), dynamo=True, verbose=False)
    assert private_names() == before


def test_a_name_that_torch_does_not_have_switches_its_lever_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moved = tuple(lever._replace(path=f"moved_{lever.path}") for lever in speed._LEVERS)
    monkeypatch.setattr(speed, "_LEVERS", moved)
    assert not any(speed.levers().values())
    with speed.quick():
        assert exported(*MODELS[0], tmp_path / "m.onnx")

    monkeypatch.setattr(speed, "_LEVERS", tuple(lever for lever in moved if lever.name != "split"))
    without_composites = [lever for lever in speed._LEVERS if lever.name != "composites"]
    monkeypatch.setattr(speed, "_LEVERS", tuple(without_composites))
    assert not any(speed.levers().values())


def test_a_name_with_other_parameters_switches_its_lever_off_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def from_torchlib(cls: Any) -> Any:
        return original.__func__(cls)

    original = vars(_registration.ONNXRegistry)["from_torchlib"]
    with monkeypatch.context() as other:
        other.setattr(_registration.ONNXRegistry, "from_torchlib", classmethod(from_torchlib))
        assert "takes (cls) in this torch" in str(speed.why_off()["registry"])
        assert speed.why_off()["torchlib"] is None
        with speed.quick():
            assert vars(_registration.ONNXRegistry)["from_torchlib"].__func__ is from_torchlib

    with_lever(monkeypatch, "composites", takes=("something",))
    assert speed.why_off()["split"] == "it needs composites, which is off"
    with speed.quick():
        assert exported(*MODELS[0], tmp_path / "m.onnx")


def raising(*_: object, **__: object) -> Any:
    raise AttributeError("op has no py_kernels")


@pytest.mark.parametrize(
    ("lever", "answers_with"),
    [("override", raising), ("decompositions", raising), ("registry", lambda *_: None), ("split", lambda *_: 7)],
)
def test_a_lever_that_fails_is_off_from_then_on_and_the_export_is_as_without(
    lever: str,
    answers_with: Any,
    switch: _levers._Switch,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    before = private_names()
    with_lever(monkeypatch, lever, wrap=lambda _original: answers_with)
    module = nn.ReLU(inplace=True).eval()
    first = registered_export(subject(module, [torch.ones(2)]), "onnx-dynamo", tmp_path / "a.onnx", 18)
    again = registered_export(subject(module, [torch.ones(2)]), "onnx-dynamo", tmp_path / "b.onnx", 18)
    assert private_names() == before
    assert first.digest == again.digest
    assert "exported without harness's speed-ups (an export failed with it and not without" in first.notes[0]
    assert not again.notes, "it is told once"
    assert set(speed.levers().values()) == set(sharing.levers().values()) == {False}
    monkeypatch.setattr(switch, "failure", None)
    monkeypatch.undo()
    alone = registered_export(subject(module, [torch.ones(2)]), "onnx-dynamo", tmp_path / "c.onnx", 18)
    assert alone.digest == first.digest


def test_an_export_that_fails_either_way_leaves_the_levers_on(switch: _levers._Switch, tmp_path: Path) -> None:
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError(f"nothing for {x.shape}")

    with pytest.raises(torch.onnx.OnnxExporterError):
        registered_export(Subject(Wrong().eval(), {"x": torch.ones(2)}, 1), "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert switch.failure is None
    assert all(speed.levers().values())


def test_a_broken_exporter_is_no_reason_not_to_start(switch: _levers._Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", raising)
    speed.prepare([18])
    assert switch.failure is None
    with pytest.raises(AttributeError, match="py_kernels"):
        preparation.speed_ups()


def test_a_translation_table_reaches_its_own_export_only(tmp_path: Path) -> None:
    module, x = nn.AvgPool2d(2, divisor_override=3), torch.ones(1, 1, 4, 4)
    given = subject(module, [x])
    for fixes in (False, True, False, True):
        artifact = registered_export(given, "onnx-dynamo", tmp_path / "m.onnx", 18, fixes=fixes)
        (found,) = answers(artifact, [x])
        assert found.ravel().tolist() == pytest.approx([4 / 3 if fixes else 1.0] * 4)


def test_a_decomposition_registered_later_is_seen(tmp_path: Path) -> None:
    torch.library.define("harness_tests::twice", "(Tensor x) -> Tensor")
    torch.library.impl("harness_tests::twice", "CompositeImplicitAutograd", lambda x: x + x)

    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.ops.harness_tests.twice(x)
            return y

    with speed.quick():
        exported(nn.ReLU(), (2,), tmp_path / "before.onnx")
        exported(Twice(), (2,), tmp_path / "twice.onnx")
    assert {node.op_type for node in onnx.load(tmp_path / "twice.onnx").graph.node} == {"Add"}


def test_prepare_fills_the_tables_and_forget_empties_them() -> None:
    speed.forget()
    assert not speed._KEPT.registries
    speed.prepare([18])
    assert list(speed._KEPT.registries) == [18]
    assert speed._KEPT.overrides
    assert speed._KEPT.torchlib


def test_the_kept_registry_is_never_handed_out_itself() -> None:
    with speed.quick():
        first = _registration.ONNXRegistry.from_torchlib(18)
        for operator, function in translation_table().items():
            first.register_op(operator, function)
        second = _registration.ONNXRegistry.from_torchlib(18)
    assert not any(meta.is_custom for metas in second.functions.values() for meta in metas)
    assert any(meta.is_custom for metas in first.functions.values() for meta in metas)
