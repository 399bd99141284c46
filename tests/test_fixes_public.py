"""The public API of the fixes: one line for each way out of torch, and no lasting change to torch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from harness import fixes, registry
from harness.errors import HarnessError, Unsupported, UsageError
from harness.fixes import corrected, torchscript_symbolics, translation_table
from harness.fixes._lowering import Lowering, stock_symbolic, stock_translation
from tests.exporting import difference_from_eager, export, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")

POOL, ONES = nn.AvgPool2d(2, divisor_override=3), torch.ones(1, 1, 4, 4)
CORRECT, WRONG = [4 / 3] * 4, [1.0] * 4


def outputs(path: Path) -> list[float]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: ONES.numpy()})
    return [float(value) for value in np.asarray(output).ravel()]


def export_and_run(path: Path) -> list[float]:
    torch.onnx.export(POOL.eval(), (ONES,), path, dynamo=False, opset_version=17)
    return outputs(path)


def test_the_users_dynamo_export_accepts_the_table(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    torch.onnx.export(
        POOL.eval(), (ONES,), path, dynamo=True, verbose=False, custom_translation_table=translation_table()
    )
    assert outputs(path) == pytest.approx(CORRECT)
    torch.onnx.export(POOL.eval(), (ONES,), path, dynamo=True, verbose=False)
    assert outputs(path) == WRONG


def test_the_users_torchscript_export_uses_the_symbolics_within_the_block(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert export_and_run(path) == WRONG
    with torchscript_symbolics(17):
        assert export_and_run(path) == pytest.approx(CORRECT)
    assert export_and_run(path) == WRONG
    with pytest.raises(ZeroDivisionError), torchscript_symbolics(17):
        _ = 1 / 0
    assert export_and_run(path) == WRONG
    with torchscript_symbolics(17):
        assert export_and_run(path) == pytest.approx(CORRECT)


@pytest.mark.parametrize("exporter", ["onnx-torchscript@17", "onnx-dynamo@23"])
@pytest.mark.parametrize("order", [(False, True, False), (True, False, True)])
def test_exports_with_and_without_fixes_are_independent_in_either_order(exporter: str, order: tuple[bool, ...]) -> None:
    for fixed in order:
        assert (difference_from_eager(POOL, [ONES], exporter, fixes=fixed) is None) is fixed


class Pair(nn.Module):
    """One unpool module used twice, and an integer slope."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.MaxUnpool2d(2)
        self.inner = nn.Sequential(self.first, nn.LeakyReLU(0))
        self.prelu = nn.PReLU()


def test_an_operator_without_a_stock_lowering_is_unsupported_before_and_after_the_fix(tmp_path: Path) -> None:
    class Unpool(torch.nn.MaxUnpool2d):
        def forward(self, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x, indices, [4, 4])

    inputs = (torch.ones(1, 1, 2, 2), torch.tensor([[[[0, 2], [8, 10]]]]))

    def stock_error() -> str:
        with pytest.raises(Exception) as refused:  # noqa: PT011 - it must be the same both times
            torch.onnx.export(Unpool(2), inputs, tmp_path / "m.onnx", dynamo=False, opset_version=17)
        return f"{refused.type.__name__}: {refused.value}"

    first = stock_error()
    with torchscript_symbolics(17):
        torch.onnx.export(Unpool(2), inputs, tmp_path / "m.onnx", dynamo=False, opset_version=17)
    assert "max_unpool2d" in first
    assert stock_error() == first


def test_corrected_is_a_copy_in_which_a_shared_submodule_stays_shared() -> None:
    model = Pair().train()
    copy = corrected(model)
    assert isinstance(copy, Pair)
    assert type(model.first) is nn.MaxUnpool2d
    assert type(copy.first) is not nn.MaxUnpool2d
    assert copy.first is copy.inner[0]
    assert copy.first.training
    assert isinstance(vars(model.inner[1])["negative_slope"], int)
    assert isinstance(vars(copy.inner[1])["negative_slope"], float)
    assert copy.prelu.weight is not model.prelu.weight
    assert torch.equal(copy.prelu.weight, model.prelu.weight)


class UserUnpool(nn.MaxUnpool2d):
    """A user's subclass."""


def test_a_subclass_is_not_replaced() -> None:
    assert type(corrected(UserUnpool(2))) is UserUnpool


def test_the_replacement_of_unpool_refuses_the_same_sizes() -> None:
    y, indices = nn.MaxPool2d(2, return_indices=True)(torch.randn(1, 1, 6, 6))
    original, replacement = nn.MaxUnpool2d(2), corrected(nn.MaxUnpool2d(2))
    for size in ([4, 6], [5, 5], [5, 7], [6, 6], [7, 7], [6, 8], [1, 1, 7, 7]):
        try:
            expected = original(y, indices, output_size=size)
        except (ValueError, RuntimeError) as refused:
            with pytest.raises(type(refused)):
                replacement(y, indices, output_size=size)
        else:
            assert torch.equal(replacement(y, indices, output_size=size), expected)


def test_an_index_outside_its_plane_is_an_error_with_the_fix(tmp_path: Path) -> None:
    indices = torch.zeros(1, 2, 1, 1, dtype=torch.int64)
    built = subject(nn.MaxUnpool2d(2), [torch.ones(1, 2, 1, 1), indices])
    for exporter, opset in (("onnx-torchscript", 17), ("onnx-dynamo", 23)):
        path = export(built, exporter, tmp_path / "m.onnx", opset, fixes=True).path
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(path), options)
        feed = {"x0": np.ones((1, 2, 1, 1), np.float32), "x1": indices.numpy()}
        assert np.asarray(session.run(None, feed)[0]).sum() == 2
        with pytest.raises(Exception, match="out of data bounds"):
            session.run(None, {**feed, "x1": indices.numpy() + 4})


def test_fixes_can_be_excluded_by_name(tmp_path: Path) -> None:
    with torchscript_symbolics(17, without=["avg_pool2d"]):
        assert export_and_run(tmp_path / "m.onnx") == WRONG
    assert torch.ops.aten.avg_pool2d.default not in translation_table(without={"avg_pool2d"})
    assert type(corrected(nn.MaxUnpool2d(2), without=["max_unpool2d_module"])) is nn.MaxUnpool2d
    with pytest.raises(UsageError, match="no fix named avgpool; the fixes are avg_pool2d, "):
        translation_table(without=["avgpool"])


def test_every_fix_has_a_description() -> None:
    by_name = fixes.fixes()
    assert {"avg_pool2d", "max_pool2d", "max_unpool2d", "rrelu", "leaky_relu", "prelu"} <= by_name.keys()
    assert all(fix.about and "\n" not in fix.about for fix in by_name.values())
    assert all(fix.issue is None or fix.issue.startswith("https://github.com/") for fix in by_name.values())
    assert by_name["avg_pool2d"].issue is not None


def test_two_fixes_of_one_operator_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = Lowering("rival", "Another.", None, "avg_pool2d", ("v",), lambda *_: None)
    monkeypatch.setattr(registry, "plugins", lambda _: {"avg_pool2d": avg_pool2d(), "rival": rival})
    with pytest.raises(HarnessError, match="avg_pool2d, rival correct the same operator"):
        translation_table()


def avg_pool2d() -> Lowering:
    from harness.fixes.avg_pool2d import PROVIDES

    return PROVIDES[0]


def test_fixes_below_their_lowest_opset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not exist at opset 12; use opset 13 or above"), torchscript_symbolics(12):
        pass
    with pytest.raises(Unsupported, match="need opset 13 or above, not 9; use @13"):
        export(subject(POOL, [ONES]), "onnx-torchscript", tmp_path / "m.onnx", 9, fixes=True)


def test_the_stock_lowerings_are_those_of_torch() -> None:
    assert callable(stock_symbolic("aten::avg_pool2d", 17))
    assert stock_symbolic("aten::max_unpool2d", 17) is None
    assert callable(stock_translation("aten::avg_pool2d"))
    with pytest.raises(LookupError, match="no stock lowering for aten::rrelu"):
        stock_translation("aten::rrelu")


def test_listing_the_fixes_imports_no_torch() -> None:
    find = "from harness.registry import plugins; plugins('fixes'); plugins('exporters')"
    code = f"import sys; {find}; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"


@pytest.mark.parametrize(
    "fix", [fix for fix in fixes.fixes().values() if isinstance(fix, Lowering)], ids=lambda fix: fix.name
)
def test_a_translation_has_the_parameters_of_its_operator(fix: Lowering) -> None:
    """Before torch 2.11 the exporter ignores a translation with other parameters."""
    ((operator, translation),) = fix.translations().items()
    parameters, schema = inspect.signature(translation).parameters, operator._schema.arguments
    assert list(parameters) == [argument.name for argument in schema]
    for argument in schema:
        if argument.has_default_value():
            assert parameters[argument.name].default == argument.default_value
        else:
            assert parameters[argument.name].default is inspect.Parameter.empty


def test_an_exporter_that_ignores_the_table_makes_no_stock_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ONNXRegistry, "register_op", lambda *_, **__: None)
    with pytest.raises(Unsupported, match="ignored the corrected lowering of aten::avg_pool2d"):
        export(subject(POOL, [ONES]), "onnx-dynamo", tmp_path / "m.onnx", 18, fixes=True)
    assert not (tmp_path / "m.onnx").exists()
    untouched = subject(nn.Softmax(-1), [ONES])
    plain = export(untouched, "onnx-dynamo", tmp_path / "a.onnx", 18)
    assert export(untouched, "onnx-dynamo", tmp_path / "b.onnx", 18, fixes=True).digest == plain.digest


def test_an_operator_that_was_decomposed_before_the_table_was_used_makes_no_stock_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For example, the captured program contains RMSNorm and the translated one does not."""
    table = {torch.ops.aten.rms_norm.default: lambda *_: None}
    monkeypatch.setattr(fixes, "translation_table", lambda: table)
    monkeypatch.setattr(ONNXRegistry, "register_op", lambda *_, **__: None)
    with pytest.raises(Unsupported, match="aten::rms_norm"):
        export(subject(nn.RMSNorm(4), [ONES]), "onnx-dynamo", tmp_path / "m.onnx", 18, fixes=True)


def test_dead_code_needs_no_fix(tmp_path: Path) -> None:
    class Dead(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.nn.functional.avg_pool2d(x, 2, divisor_override=3)
            return x + 1

    assert export(subject(Dead(), [ONES]), "onnx-dynamo", tmp_path / "m.onnx", 18, fixes=True).path.exists()


def test_a_torchscript_exporter_that_ignores_the_symbolics_makes_no_stock_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.onnx, "register_custom_op_symbolic", lambda *_: None)
    with pytest.raises(Unsupported, match="does not use the corrected lowering of aten::avg_pool2d at opset 17"):
        export(subject(POOL, [ONES]), "onnx-torchscript", tmp_path / "m.onnx", 17, fixes=True)
    assert export_and_run(tmp_path / "m.onnx") == WRONG
