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

from harness.exporters import _dynamo_sharing as sharing
from harness.exporters import _dynamo_speed as speed
from harness.fixes import translation_table
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


def test_every_lever_holds_for_the_releases_it_was_written_for() -> None:
    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if release != (2, 13):
        pytest.skip(
            f"the levers were written for torch 2.13; this is {torch.__version__}, and they hold {speed.levers()}"
        )
    assert all(speed.levers().values())
    assert all(sharing.levers().values())


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
