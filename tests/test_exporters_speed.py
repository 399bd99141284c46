"""The speed-ups of the dynamo exporter change no file, leave torch as it was, and turn off where torch differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx_ir import _core as _ir_core
from torch import nn
from torch.export import decomp_utils, exported_program
from torch.onnx._internal.exporter import _decomp, _registration

from harness.exporters import _dynamo_cache, _dynamo_sharing, _speed_ups
from harness.exporters._files import in_memory_order
from harness.fixes import translation_table
from harness.model.build import Subject
from harness.registry import plugins
from tests.exporting import export, run_file, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")

MODELS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AvgPool2d(2)), (1, 3, 8, 8)),
    (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Softmax(-1)), (2, 4)),
]


def stock_export(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> bytes:
    """Return the bytes of torch's export without the speed-ups."""
    torch.onnx.export(
        module.eval(), (torch.ones(shape),), path, dynamo=True, external_data=False, verbose=False, **options
    )
    return path.read_bytes()


def private_names() -> list[object]:
    """The current objects at the names that the speed-ups patch."""
    return [
        vars(_registration.ONNXRegistry)["from_torchlib"],
        vars(vars(_registration)["onnxscript_apis"]).get("get_torchlib_ops"),
        vars(exported_program)["_collect_all_valid_cia_ops"],
        vars(exported_program)["_override_composite_implicit_decomp"],
        vars(exported_program)["_split_decomp_table_to_cia_and_python_decomp"],
        vars(decomp_utils)["_collect_all_valid_cia_ops"],
        _decomp.create_onnx_friendly_decomposition_table,
        vars(_ir_core)["_create_np_array_for_byte_representation"],
    ]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> _speed_ups._State:
    """The state of the speed-ups as in a new process."""
    initial = _speed_ups._State()
    monkeypatch.setattr(_speed_ups, "_STATE", initial)
    return initial


def change_speed_up(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    changed = tuple(
        speed_up._replace(**changes) if speed_up.name == name else speed_up for speed_up in _dynamo_cache._SPEED_UPS
    )
    monkeypatch.setattr(_dynamo_cache, "_SPEED_UPS", changed)


def test_every_speed_up_is_on_with_the_releases_it_was_written_for() -> None:
    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    reasons = _dynamo_cache.disabled_reasons() | _dynamo_sharing.disabled_reasons()
    off = {name: reason for name, reason in reasons.items() if reason is not None}
    if not (2, 9) <= release <= (2, 15):
        pytest.skip(f"the speed-ups were tried with torch 2.9 to 2.15; off with {torch.__version__}: {off}")
    assert not off


@pytest.mark.parametrize(("module", "shape"), MODELS)
def test_an_export_has_the_same_bytes_with_and_without_speed_ups(
    module: nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    stock = stock_export(module, shape, tmp_path / "m.onnx", opset_version=20)
    before = private_names()
    with _dynamo_cache.cached_tables():
        first = stock_export(module, shape, tmp_path / "m.onnx", opset_version=20)
        assert private_names() != before
    with _dynamo_cache.cached_tables():
        second = stock_export(module, shape, tmp_path / "m.onnx", opset_version=20)
    assert private_names() == before
    assert stock == first == second


def test_torch_is_restored_after_an_exception() -> None:
    before = private_names()
    with pytest.raises(torch.onnx.OnnxExporterError), _dynamo_cache.cached_tables():
        torch.onnx.export(nn.RReLU().eval(), (torch.ones(2),), dynamo=True, verbose=False)
    assert private_names() == before


def test_a_speed_up_is_off_if_torch_does_not_have_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    moved = tuple(speed_up._replace(path=f"moved_{speed_up.path}") for speed_up in _dynamo_cache._SPEED_UPS)
    monkeypatch.setattr(_dynamo_cache, "_SPEED_UPS", moved)
    assert not any(_dynamo_cache.enabled().values())
    with _dynamo_cache.cached_tables():
        assert stock_export(*MODELS[0], tmp_path / "m.onnx")

    remaining = tuple(speed_up for speed_up in moved if speed_up.name not in ("split", "composites"))
    monkeypatch.setattr(_dynamo_cache, "_SPEED_UPS", remaining)
    assert not any(_dynamo_cache.enabled().values())


def test_a_speed_up_is_off_with_a_reason_if_the_name_has_other_parameters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def from_torchlib(cls: Any) -> Any:
        return original.__func__(cls)

    original = vars(_registration.ONNXRegistry)["from_torchlib"]
    with monkeypatch.context() as patch:
        patch.setattr(_registration.ONNXRegistry, "from_torchlib", classmethod(from_torchlib))
        assert "takes (cls) in this torch" in str(_dynamo_cache.disabled_reasons()["registry"])
        assert _dynamo_cache.disabled_reasons()["torchlib"] is None
        with _dynamo_cache.cached_tables():
            assert vars(_registration.ONNXRegistry)["from_torchlib"].__func__ is from_torchlib

    change_speed_up(monkeypatch, "composites", parameters=("something",))
    assert _dynamo_cache.disabled_reasons()["split"] == "it needs composites, which is off"
    with _dynamo_cache.cached_tables():
        assert stock_export(*MODELS[0], tmp_path / "m.onnx")


def raising(*_: object, **__: object) -> Any:
    raise AttributeError("op has no py_kernels")


@pytest.mark.parametrize(
    ("name", "replacement"),
    [("override", raising), ("decompositions", raising), ("registry", lambda *_: None), ("split", lambda *_: 7)],
)
def test_after_a_failed_speed_up_all_are_off_and_the_export_is_as_without(
    name: str,
    replacement: Any,
    state: _speed_ups._State,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    before = private_names()
    change_speed_up(monkeypatch, name, wrap=lambda _original: replacement)
    module = nn.ReLU(inplace=True).eval()
    first = export(subject(module, [torch.ones(2)]), "onnx-dynamo", tmp_path / "a.onnx", 18)
    second = export(subject(module, [torch.ones(2)]), "onnx-dynamo", tmp_path / "b.onnx", 18)
    assert private_names() == before
    assert first.digest == second.digest
    assert "exported without harness's speed-ups (an export failed with speed-ups and not without" in first.notes[0]
    assert second.notes == first.notes, "each file that is exported without them has the note"
    assert set(_dynamo_cache.enabled().values()) == set(_dynamo_sharing.enabled().values()) == {False}
    monkeypatch.setattr(state, "failure", None)
    monkeypatch.undo()
    third = export(subject(module, [torch.ones(2)]), "onnx-dynamo", tmp_path / "c.onnx", 18)
    assert third.digest == first.digest


def test_an_export_that_fails_without_speed_ups_too_leaves_them_on(state: _speed_ups._State, tmp_path: Path) -> None:
    class RaisesKeyError(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError(f"nothing for {x.shape}")

    with pytest.raises(torch.onnx.OnnxExporterError):
        export(Subject(RaisesKeyError().eval(), {"x": torch.ones(2)}, 1), "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert state.failure is None
    assert all(_dynamo_cache.enabled().values())


def test_a_module_that_cannot_be_captured_is_tried_again_with_the_same_registry(
    state: _speed_ups._State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The registry is read after the capture, and making it again takes ten times as long as the rest.
    class Raises(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Raises.calls += 1
            raise ValueError(f"nothing for {x.shape}")

    apis = vars(_registration)["onnxscript_apis"]
    original = apis.get_torchlib_ops
    calls: list[None] = []

    def counted() -> Any:
        calls.append(None)
        return original()

    monkeypatch.setattr(apis, "get_torchlib_ops", counted)
    _dynamo_cache.clear()
    example = Subject(Raises().eval(), {"x": torch.ones(2)}, 1)
    with pytest.raises(torch.onnx.OnnxExporterError):
        export(example, "onnx-dynamo", tmp_path / "m.onnx", 18)
    captures = Raises.calls
    monkeypatch.setattr(state, "failure", "off")
    with pytest.raises(torch.onnx.OnnxExporterError):
        export(example, "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert captures == 2 * (Raises.calls - captures)
    assert len(calls) == 2, "once with speed-ups, for both attempts, and once without"


def test_warm_up_ignores_a_broken_exporter(state: _speed_ups._State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", raising)
    _dynamo_cache.warm_up([18])
    assert state.failure is None
    with pytest.raises(AttributeError, match="py_kernels"):
        _dynamo_cache.speed_up_status()


def test_a_translation_table_does_not_reach_other_exports(tmp_path: Path) -> None:
    module, x = nn.AvgPool2d(2, divisor_override=3), torch.ones(1, 1, 4, 4)
    example = subject(module, [x])
    for fixes in (False, True, False, True):
        artifact = export(example, "onnx-dynamo", tmp_path / "m.onnx", 18, fixes=fixes)
        (output,) = run_file(artifact, [x])
        assert output.ravel().tolist() == pytest.approx([4 / 3 if fixes else 1.0] * 4)


def test_a_decomposition_registered_later_is_used(tmp_path: Path) -> None:
    torch.library.define("harness_tests::twice", "(Tensor x) -> Tensor")
    torch.library.impl("harness_tests::twice", "CompositeImplicitAutograd", lambda x: x + x)

    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.ops.harness_tests.twice(x)
            return y

    with _dynamo_cache.cached_tables():
        stock_export(nn.ReLU(), (2,), tmp_path / "before.onnx")
        stock_export(Twice(), (2,), tmp_path / "twice.onnx")
    assert {node.op_type for node in onnx.load(tmp_path / "twice.onnx").graph.node} == {"Add"}


def test_warm_up_fills_the_tables_and_clear_empties_them() -> None:
    _dynamo_cache.clear()
    assert not _dynamo_cache._CACHE.registries
    _dynamo_cache.warm_up([18])
    assert list(_dynamo_cache._CACHE.registries) == [18]
    assert _dynamo_cache._CACHE.overrides
    assert _dynamo_cache._CACHE.torchlib


def test_the_cached_registry_is_never_handed_out_itself() -> None:
    with _dynamo_cache.cached_tables():
        first = _registration.ONNXRegistry.from_torchlib(18)
        for operator, function in translation_table().items():
            first.register_op(operator, function)
        second = _registration.ONNXRegistry.from_torchlib(18)
    assert not any(meta.is_custom for metas in second.functions.values() for meta in metas)
    assert any(meta.is_custom for metas in first.functions.values() for meta in metas)


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_the_registry_of_each_opset_is_torchs_own(opset: int) -> None:
    def described(registry: Any) -> object:
        functions = {target: list(map(vars, kept)) for target, kept in registry.functions.items()}
        return type(registry), registry.opset_version, functions

    _dynamo_cache.clear()
    stock = described(_registration.ONNXRegistry.from_torchlib(opset))
    with _dynamo_cache.cached_tables():
        for other in (25, opset, opset):
            ours = _registration.ONNXRegistry.from_torchlib(other)
    assert repr(described(ours)) == repr(stock)


def test_an_operator_that_comes_after_the_first_export_is_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's do, which a model imports. Here an operator that torch has was looked for, and not found."""
    find = _registration._get_overload
    _dynamo_cache.clear()
    with monkeypatch.context() as patch, _dynamo_cache.cached_tables():
        patch.setattr(_registration, "_get_overload", lambda name: None if name == "aten::gelu" else find(name))
        assert "aten::gelu" not in _registration.ONNXRegistry.from_torchlib(18).functions
    _dynamo_cache._CACHE.absent |= {"aten::gelu"}
    with _dynamo_cache.cached_tables():
        assert "aten::gelu" in _registration.ONNXRegistry.from_torchlib(18).functions
        assert _dynamo_cache._CACHE.absent.isdisjoint({"aten::gelu"})


@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(st.integers(0, 40), st.integers(0, 2100)),
    st.sampled_from(["f4", "f2", "i1", "c8", ml_dtypes.bfloat16]),
    st.data(),
)
def test_an_array_in_memory_order_has_the_same_elements_whatever_its_strides(
    outer: list[int], inner: tuple[int, int], dtype: Any, data: st.DataObject
) -> None:
    shape = (*outer, *inner)
    size = np.prod(shape, dtype=int) * np.dtype(dtype).itemsize
    whole = np.random.default_rng(0).integers(0, 256, size, "u1").view(dtype).reshape(shape)
    axes = data.draw(st.permutations(range(whole.ndim)))
    strided = whole.transpose(axes)[..., :: data.draw(st.sampled_from([1, 2, -1]))]
    ordered = in_memory_order(strided)
    assert ordered.flags.c_contiguous
    assert (ordered.dtype, ordered.shape, ordered.tobytes()) == (strided.dtype, strided.shape, strided.tobytes())
    assert ordered is strided or not strided.flags.c_contiguous


def test_transposed_weights_in_a_file_of_their_own_are_written_as_torch_writes_them(tmp_path: Path) -> None:
    module = nn.Linear(1100, 40, bias=False).eval()
    stock, ours = tmp_path / "stock" / "m.onnx", tmp_path / "ours" / "m.onnx"
    for path in (stock, ours):
        path.parent.mkdir()
    x = torch.ones(1, 2, 1100)
    torch.onnx.export(module, (x,), stock, dynamo=True, external_data=True, verbose=False)
    plugins("exporters")["onnx-dynamo"].export(subject(module, [x]), ours, opset=18, fixes=False, external_data="on")
    weights = ours.with_name("m.onnx.data").read_bytes()
    assert weights == stock.with_name("m.onnx.data").read_bytes()
    written = np.frombuffer(weights, "f4").reshape(1100, 40)
    assert np.array_equal(written.T, module.weight.detach().numpy())
