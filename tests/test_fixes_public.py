"""The fixes as a user has them: one line for each way out of torch, and nothing of them left behind."""

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
from tests.exporting import export, parted, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")

POOL, ONES = nn.AvgPool2d(2, divisor_override=3), torch.ones(1, 1, 4, 4)
RIGHT, WRONG = [4 / 3] * 4, [1.0] * 4


def ran(path: Path) -> list[float]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: ONES.numpy()})
    return [float(value) for value in np.asarray(answer).ravel()]


def torchscript(path: Path) -> list[float]:
    torch.onnx.export(POOL.eval(), (ONES,), path, dynamo=False, opset_version=17)
    return ran(path)


def test_a_users_own_dynamo_export_takes_the_table_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    torch.onnx.export(
        POOL.eval(), (ONES,), path, dynamo=True, verbose=False, custom_translation_table=translation_table()
    )
    assert ran(path) == pytest.approx(RIGHT)
    torch.onnx.export(POOL.eval(), (ONES,), path, dynamo=True, verbose=False)
    assert ran(path) == WRONG


def test_a_users_own_torchscript_export_takes_a_with(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert torchscript(path) == WRONG
    with torchscript_symbolics(17):
        assert torchscript(path) == pytest.approx(RIGHT)
    assert torchscript(path) == WRONG
    with pytest.raises(ZeroDivisionError), torchscript_symbolics(17):
        _ = 1 / 0
    assert torchscript(path) == WRONG
    with torchscript_symbolics(17):
        assert torchscript(path) == pytest.approx(RIGHT)


@pytest.mark.parametrize("exporter", ["onnx-torchscript@17", "onnx-dynamo@23"])
@pytest.mark.parametrize("order", [(False, True, False), (True, False, True)])
def test_through_the_exporters_neither_order_leaks(exporter: str, order: tuple[bool, ...]) -> None:
    for fixed in order:
        assert (parted(POOL, [ONES], exporter, fixes=fixed) is None) is fixed


class Pair(nn.Module):
    """One unpool used in two places, and a slope that is an int."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.MaxUnpool2d(2)
        self.inner = nn.Sequential(self.first, nn.LeakyReLU(0))
        self.prelu = nn.PReLU()


def test_an_operator_that_stock_has_never_heard_of_is_unsupported_before_and_after_the_fix(tmp_path: Path) -> None:
    class Unpool(torch.nn.MaxUnpool2d):
        def forward(self, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x, indices, [4, 4])

    given = (torch.ones(1, 1, 2, 2), torch.tensor([[[[0, 2], [8, 10]]]]))

    def stock() -> str:
        with pytest.raises(Exception) as refused:  # noqa: PT011 - what matters is that it is the same both times
            torch.onnx.export(Unpool(2), given, tmp_path / "m.onnx", dynamo=False, opset_version=17)
        return f"{refused.type.__name__}: {refused.value}"

    first = stock()
    with torchscript_symbolics(17):
        torch.onnx.export(Unpool(2), given, tmp_path / "m.onnx", dynamo=False, opset_version=17)
    assert "max_unpool2d" in first
    assert stock() == first


def test_corrected_is_a_copy_in_which_one_object_stays_one() -> None:
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


class Mine(nn.MaxUnpool2d):
    """A user's own."""


def test_a_subclass_is_left_as_it_is() -> None:
    assert type(corrected(Mine(2))) is Mine


def test_the_module_in_unpools_place_refuses_the_sizes_that_it_does() -> None:
    y, indices = nn.MaxPool2d(2, return_indices=True)(torch.randn(1, 1, 6, 6))
    original, exchanged = nn.MaxUnpool2d(2), corrected(nn.MaxUnpool2d(2))
    for size in ([4, 6], [5, 5], [5, 7], [6, 6], [7, 7], [6, 8], [1, 1, 7, 7]):
        try:
            right = original(y, indices, output_size=size)
        except (ValueError, RuntimeError) as refused:
            with pytest.raises(type(refused)):
                exchanged(y, indices, output_size=size)
        else:
            assert torch.equal(exchanged(y, indices, output_size=size), right)


def test_an_index_outside_its_plane_is_an_error_with_the_fix(tmp_path: Path) -> None:
    good = torch.zeros(1, 2, 1, 1, dtype=torch.int64)
    given = subject(nn.MaxUnpool2d(2), [torch.ones(1, 2, 1, 1), good])
    for exporter, opset in (("onnx-torchscript", 17), ("onnx-dynamo", 23)):
        path = export(given, exporter, tmp_path / "m.onnx", opset, fixes=True).path
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(path), options)
        feed = {"x0": np.ones((1, 2, 1, 1), np.float32), "x1": good.numpy()}
        assert np.asarray(session.run(None, feed)[0]).sum() == 2
        with pytest.raises(Exception, match="out of data bounds"):
            session.run(None, {**feed, "x1": good.numpy() + 4})


def test_fixes_can_be_left_out_by_name(tmp_path: Path) -> None:
    with torchscript_symbolics(17, without=["avg_pool2d"]):
        assert torchscript(tmp_path / "m.onnx") == WRONG
    assert torch.ops.aten.avg_pool2d.default not in translation_table(without={"avg_pool2d"})
    assert type(corrected(nn.MaxUnpool2d(2), without=["max_unpool2d_module"])) is nn.MaxUnpool2d
    with pytest.raises(UsageError, match="there is no fix called avgpool; there are avg_pool2d, "):
        translation_table(without=["avgpool"])


def test_every_fix_says_what_it_is_for() -> None:
    found = fixes.fixes()
    assert {"avg_pool2d", "max_pool2d", "max_unpool2d", "rrelu", "leaky_relu", "prelu"} <= found.keys()
    assert all(fix.about and "\n" not in fix.about for fix in found.values())
    assert all(fix.issue is None or fix.issue.startswith("https://github.com/") for fix in found.values())
    assert found["avg_pool2d"].issue is not None


def test_two_fixes_of_one_operator_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = Lowering("rival", "Another.", None, "avg_pool2d", ("v",), lambda *_: None)
    monkeypatch.setattr(registry, "plugins", lambda _: {"avg_pool2d": avg_pool2d(), "rival": rival})
    with pytest.raises(HarnessError, match="avg_pool2d, rival correct the same operator"):
        translation_table()


def avg_pool2d() -> Lowering:
    from harness.fixes.avg_pool2d import PROVIDES

    return PROVIDES[0]


def test_below_their_lowest_opset_the_fixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written at opset 12; 13 or above can"), torchscript_symbolics(12):
        pass
    with pytest.raises(Unsupported, match="cannot be written at opset 9; ask for @13 or above"):
        export(subject(POOL, [ONES]), "onnx-torchscript", tmp_path / "m.onnx", 9, fixes=True)


def test_what_stock_itself_has_is_found_for_the_plain_case() -> None:
    assert callable(stock_symbolic("aten::avg_pool2d", 17))
    assert stock_symbolic("aten::max_unpool2d", 17) is None
    assert callable(stock_translation("aten::avg_pool2d"))
    with pytest.raises(LookupError, match="no lowering for aten::rrelu to hand on to"):
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
    """Before torch 2.11 the exporter passes over one that has others."""
    ((operator, translation),) = fix.translations().items()
    found, schema = inspect.signature(translation).parameters, operator._schema.arguments
    assert list(found) == [argument.name for argument in schema]
    for argument in schema:
        if argument.has_default_value():
            assert found[argument.name].default == argument.default_value
        else:
            assert found[argument.name].default is inspect.Parameter.empty


def test_an_exporter_that_passes_over_the_table_makes_no_stock_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ONNXRegistry, "register_op", lambda *_, **__: None)
    with pytest.raises(Unsupported, match="does not use the corrected lowering of aten::avg_pool2d"):
        export(subject(POOL, [ONES]), "onnx-dynamo", tmp_path / "m.onnx", 18, fixes=True)
    assert not (tmp_path / "m.onnx").exists()
    untouched = subject(nn.Softmax(-1), [ONES])
    plain = export(untouched, "onnx-dynamo", tmp_path / "a.onnx", 18)
    assert export(untouched, "onnx-dynamo", tmp_path / "b.onnx", 18, fixes=True).digest == plain.digest


def test_an_operator_that_was_taken_apart_before_the_table_was_asked_makes_no_stock_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of RMSNorm, say, nothing is left in the program that is translated; what was captured tells."""
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


def test_a_torchscript_exporter_that_looks_elsewhere_makes_no_stock_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.onnx, "register_custom_op_symbolic", lambda *_: None)
    with pytest.raises(Unsupported, match="is not seen to use the corrected lowering of aten::avg_pool2d at opset 17"):
        export(subject(POOL, [ONES]), "onnx-torchscript", tmp_path / "m.onnx", 17, fixes=True)
    assert torchscript(tmp_path / "m.onnx") == WRONG
