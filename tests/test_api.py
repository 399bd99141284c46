"""The Python API: correct outputs pass, wrong outputs fail, and nothing passes without a comparison."""

from __future__ import annotations

import doctest
import inspect
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest
import torch
from torch import nn

import harness
import harness.check.check  # a package named check is loaded, and the function compare is still there
from harness import api
from harness.cli import cli
from harness.errors import RequestError, UsageError

ROOT = Path(__file__).resolve().parent.parent
SCRIPT, ORT = "trace/torch-cpu", "onnx-torchscript@17/ort-cpu"
Write = Callable[[str, str], Path]
RELU = """
harness: 1
layer: ReLU
cases:
  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}}
  - {name: wrong, inputs: {x: {values: [1.0, -2.0]}}, expect: {outputs: [{values: [1.0, -2.0]}]}}
"""


class Changing(nn.Module):
    """Counts its calls and changes its input in place."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x.relu_() * 2


class Frozen(nn.Module):
    """Its batch size becomes a constant in every export."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.full((x.shape[0], 1), float(x.shape[0]))


def test_an_export_leaves_no_records_for_torch_s_tools_in_the_log_of_a_test(caplog: pytest.LogCaptureFixture) -> None:
    for_tools = logging.getLogger("torch.__trace")
    for_tools.addHandler(caplog.handler)  # as newer releases of pytest do
    try:
        harness.verify(nn.ReLU(), torch.randn(3), "onnx-dynamo@18/ort-cpu").assert_passed()
        assert [record for record in caplog.records if record.name == "torch.__trace"] == []
        assert caplog.handler in for_tools.handlers, "as before"
    finally:
        for_tools.removeHandler(caplog.handler)


def test_the_examples_of_the_documentation_hold(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with warnings.catch_warnings():
        examples = doctest.testmod(api)
    assert examples.attempted >= 10
    assert not examples.failed


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'onnx', 'numpy', 'click', 'pydantic', 'rich', 'yaml'}"
    code = f"import sys, harness; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


# verify


def test_a_model_that_survives_its_export_passes() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).eval()
    verdict = harness.verify(model, torch.randn(2, 4), [SCRIPT, ORT])
    verdict.assert_passed()
    assert verdict
    assert [result.target for result in verdict.results] == [SCRIPT, ORT]
    assert str(verdict) == f"agrees on {SCRIPT}, {ORT}"


def test_a_model_that_differs_is_reported_with_its_numbers() -> None:
    verdict = harness.verify(nn.AvgPool2d(2, divisor_override=3), torch.ones(1, 1, 4, 4), f"{SCRIPT},{ORT}")
    assert not verdict
    with pytest.raises(
        AssertionError, match=r"onnx-torchscript@17/ort-cpu: failed, compare: mismatch .*exporter.*4 of 4 values differ"
    ):
        verdict.assert_passed()
    assert [result.status for result in verdict.results] == ["passed", "failed"]


def test_a_stage_that_raises_is_part_of_the_answer() -> None:
    class Stubborn(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not today")

    verdict = harness.verify(Stubborn(), torch.ones(2), SCRIPT)
    assert not verdict.passed
    assert "not today" in verdict.message
    assert verdict.results[0].stage == "build"


def test_a_runtime_that_is_not_here_is_no_pass() -> None:
    verdict = harness.verify(nn.ReLU(), torch.randn(3), [SCRIPT, "onnx-torchscript@17/ort-coreml"])
    assert not verdict.passed
    assert "ort-coreml: skipped" in verdict.message


def test_a_model_without_outputs_is_no_pass() -> None:
    class Silent(nn.Module):
        def forward(self, _: torch.Tensor) -> tuple[()]:
            return ()

    assert not harness.verify(Silent(), torch.randn(3), SCRIPT).passed


def test_neither_the_module_nor_its_inputs_are_changed() -> None:
    model, x = Changing(), torch.tensor([1.0, -1.0])
    harness.verify(model, x, [SCRIPT, ORT]).assert_passed()
    assert torch.equal(x, torch.tensor([1.0, -1.0]))
    assert torch.equal(model.calls, torch.zeros(1))


def test_warnings_are_kept_with_the_row_even_where_they_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = harness.verify(nn.ReLU(), torch.randn(3), ORT)
    verdict.assert_passed()
    assert any("DeprecationWarning" in line for line in verdict.results[0].log)


def test_the_tolerance_decides() -> None:
    model, x = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid()).eval(), torch.randn(8, 64)
    assert harness.verify(model, x, ORT, tolerance={"rtol": 1e-4, "atol": 1e-5}).passed
    assert not harness.verify(model, x, ORT, tolerance="exact").passed


def test_open_axes_are_verified_at_the_other_inputs() -> None:
    model, x, other = nn.Linear(3, 2).eval(), torch.randn(2, 3), torch.randn(5, 3)
    assert harness.verify(model, {"x": x}, ORT, dynamic={"x": {0: "N"}}, also=[{"x": other}]).passed
    fixed = harness.verify(model, {"x": x}, ORT, also=[{"x": other}])
    assert not fixed.passed
    frozen = harness.verify(Frozen(), {"x": x}, SCRIPT, dynamic={"x": {0: "N"}}, also=[{"x": other}])
    assert not frozen.passed


def test_several_inputs_go_by_order() -> None:
    class Minus(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    a, b = torch.randn(3), torch.randn(3)
    verdict = harness.verify(Minus(), (a, b), ORT)
    verdict.assert_passed()
    assert verdict.results[0].outputs[0].of == 3


ON_META = nn.Linear(4, 4, device="meta")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harness.verify(nn.ReLU(), 3), "int is neither a tensor nor an array"),  # type: ignore[arg-type]
        (lambda: harness.verify(nn.ReLU(), torch.ones(1), "trase/torch-cpu"), "did you mean trace?"),
        (lambda: harness.verify(nn.ReLU(), torch.ones(1), "file/ort-cpu"), "takes a file"),
        (lambda: harness.verify(nn.ReLU(), torch.ones(1), tolerance="near"), "tolerance: near is not a tolerance"),
        (lambda: harness.verify(nn.ReLU(), torch.ones(1), tolerance={"scaled": 2}), "scaled needs"),
        (lambda: harness.verify(nn.ReLU(), torch.ones(1), dynamic={"y": {0: "N"}}), "no input is named 'y'"),
        (lambda: harness.verify(nn.ReLU(), torch.ones(1), also=[{"y": torch.ones(2)}]), "each must have x"),
        (lambda: harness.verify(ON_META, torch.ones(4)), "module: weight and 1 more are on the meta device"),
        (lambda: harness.verify(nn.ReLU(), torch.ones(1, device="meta")), "inputs: x is on the meta device"),
        (lambda: harness.compare_models(ON_META, ON_META, torch.ones(4)), "build it on the CPU, or load its weights"),
        (lambda: harness.compare("one", "one"), "str is not an array"),
        (lambda: harness.compare(np.ones(1), np.ones(1), {"ulp": -1}), "ulp"),
    ],
)
def test_a_wrong_request_says_what_would_be_right(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        call()
    assert message in str(raised.value)
    assert ";" in str(raised.value)


# compare


def test_tensors_and_arrays_compare_alike() -> None:
    y = torch.tensor([1.0, 2.0])
    assert harness.compare(y, y.numpy(), "exact").passed
    assert harness.compare([y, y.int()], [y, y.int()]).passed
    assert harness.compare({"scores": y}, {"scores": y}).passed


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.001])),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0]])),
        (torch.tensor([1]), torch.tensor([2])),
        (torch.tensor([float("nan")]), torch.tensor([1.0])),
        ([torch.ones(1)], [torch.ones(1), torch.ones(1)]),
        ({"a": torch.ones(1)}, {"b": torch.ones(1)}),
        ([], []),
    ],
)
def test_what_differs_does_not_pass(actual: Any, expected: Any) -> None:
    comparison = harness.compare(actual, expected)
    assert not comparison
    assert comparison.message
    with pytest.raises(AssertionError):
        comparison.assert_passed()


def test_the_default_goes_by_the_dtype_of_each_output() -> None:
    half = torch.tensor([1.0], dtype=torch.float16)
    near = half * 1.0009766  # one ULP of float16: within its default, far outside float64's
    assert harness.compare([near, half.double()], [half, half.double()]).passed
    assert not harness.compare([half, near.double()], [half, half.double()]).passed


# run


def test_a_run_is_judged_as_the_command_line_judges_it(spec: Write) -> None:
    path = spec("relu.yaml", RELU)
    report = harness.run(path, targets=SCRIPT)
    assert (report.passed, report.exit_code) == (False, 1)
    assert report.summary["failed"] == report.summary["passed"] == 1
    assert "relu/wrong" not in repr(report)
    with pytest.raises(AssertionError, match=rf"Not as expected: 1 of 2 checks[^\n]*\nrelu/wrong on {SCRIPT}: failed"):
        report.assert_passed()
    assert harness.run(path, targets=SCRIPT, keywords="signed")


def test_a_run_writes_files_only_into_report_dir(spec: Write, here: Path) -> None:
    path = spec("relu.yaml", RELU)
    harness.run([path], targets=[SCRIPT], report_dir=here / "written", format=["json"])
    assert [file.name for file in (here / "written").iterdir()] == ["report.json"]
    assert sorted(file.name for file in here.iterdir()) == ["cache", "specs", "written"]


ARGUMENTS_ALONE = {"paths", "old_names"}
OF_THE_TERMINAL = {
    "dry_run",
    "lf",
    "open",
    "quiet",
    "verbose",
    "watch",
    "help",
    "engine",
    "ray_address",
    "ray_resource",
}
"""Options about one call at a terminal, and about a cluster."""


def test_arguments_have_the_names_and_the_defaults_of_options() -> None:
    options = {
        next(word for word in option.opts if word.startswith("--")).removeprefix("--").replace("-", "_"): option.default
        for option in cli.commands["run"].params
        if isinstance(option, click.Option) and any(word.startswith("--") for word in option.opts)
    }
    arguments = {name: each.default for name, each in inspect.signature(harness.run).parameters.items()}
    assert arguments.keys() - ARGUMENTS_ALONE == options.keys() - OF_THE_TERMINAL
    as_option = {
        "format": ",".join(arguments["format"]),
        "targets": None,
        "timeout": None,
        "report_dir": options["report_dir"],
    }
    for name in arguments.keys() - ARGUMENTS_ALONE:
        default = as_option.get(name, arguments[name])
        given = None if type(options[name]).__name__ == "Sentinel" else options[name]
        assert (default or None) == (given or None), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keywords": "sigmoid"}, "keywords sigmoid: matches no case"),
        ({"shard": "3/2"}, "shard 3/2: not a shard"),
        ({"format": "pdf"}, "format pdf: no such report format"),
        ({"require": "torch-gpu"}, "require torch-gpu: no such runtime"),
        ({"targets": ""}, "targets names no target; name one"),
        ({"baseline": "nowhere.json"}, "nowhere.json"),
        ({"gate": "load"}, "gate load: there is nothing to compare with; give baseline"),
        ({"jobs": 0}, "jobs: a whole number of at least 1 is expected, not 0"),
        ({"maxfail": 0.5}, "maxfail: a whole number of at least 1 is expected, not 0.5"),
        ({"strict_ulp": True}, "strict_ulp: a whole number of at least 0 is expected, not True"),
        ({"timeout": 0}, "timeout: a number above 0 is expected, not 0"),
        ({"timeout": float("inf")}, "timeout: a number of at most 1,000,000,000 is expected, not inf"),
        ({"min_effect": "3 %"}, "min_effect: a number of at least 0 is expected, not '3 %'"),
        ({"jobs": np.int64(0)}, "jobs: a whole number of at least 1 is expected, not"),
        ({"jobs": np.bool_(True)}, "jobs: a whole number of at least 1 is expected, not"),
        ({"maxfail": np.float64(2)}, "maxfail: a whole number of at least 1 is expected, not"),
        ({"timeout": np.float32("nan")}, "timeout: a number above 0 is expected, not"),
        ({"format": ""}, "format: it names nothing; name one"),
    ],
)
def test_an_error_is_about_the_argument(spec: Write, arguments: dict[str, Any], message: str) -> None:
    path = spec("relu.yaml", RELU)
    with pytest.raises(RequestError, match=re.escape(message)) as raised:
        harness.run(path, **{"targets": SCRIPT, **arguments})
    assert "--" not in str(raised.value)


def test_numpy_numbers_are_numbers(spec: Write) -> None:
    numbers: dict[str, Any] = {
        "jobs": np.int64(1),
        "maxfail": np.uint8(3),
        "memory": np.int64(2**34),
        "strict_ulp": np.int16(4),
        "timeout": np.float32(60),
        "min_effect": np.float64(0.03),
        "latency": np.bool_(False),
    }
    assert harness.run(spec("relu.yaml", RELU), targets=SCRIPT, keywords="signed", **numbers)
    y = np.ones(2, np.float32)
    for tolerance in (
        {"ulp": np.int64(4)},
        {"rtol": np.float32(1e-3), "atol": 0},
        {"by_output": {np.int64(0): "exact"}},
    ):
        assert harness.compare(y, y, tolerance)
    dynamic: Any = {"x": {np.int64(0): "N"}}
    inputs, scalar = np.ones((2, 3), np.float32), cast("Any", np.float32(3))
    harness.verify(nn.ReLU(), inputs, ORT, dynamic=dynamic, tolerance={"ulp": np.int64(0)}).assert_passed()
    harness.verify(nn.ReLU(), scalar, SCRIPT).assert_passed()


def test_code_is_run_only_with_the_argument_that_allows_it(spec: Write) -> None:
    path = spec("net.yaml", RELU.replace("layer: ReLU", "factory: net:Net"))
    with pytest.raises(RequestError, match="pass allow_import=True to allow it"):
        harness.run(path, targets=SCRIPT)


def test_old_names_of_arguments_work_with_a_warning_and_others_do_not(spec: Write) -> None:
    path = spec("relu.yaml", RELU)
    with pytest.warns(DeprecationWarning, match=r"harness\.run\(workers=\.\.\.\) is called jobs now"):
        assert harness.run(path, targets=SCRIPT, keywords="signed", latency=False, workers=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'job'"):
        harness.run(path, job=1)


class Nested(nn.Module):
    """Takes its inputs by keyword, a state as a tuple, a dict, and perhaps a mask."""

    def forward(
        self, x: torch.Tensor, state: Any, *, cache: dict[str, torch.Tensor], mask: torch.Tensor | None = None
    ) -> Any:
        assert isinstance(state, tuple)
        y = x + state[0] - 2 * state[1] + 3 * cache["v"] - 5 * cache["k"]
        return {"y": y if mask is None else y * mask}


@pytest.mark.parametrize("mask", [None, np.zeros(3, np.float32)])
def test_nested_inputs_arrays_none_and_names(mask: np.ndarray[Any, Any] | None) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    state, cache = (x + 1, np.full(3, 2, np.float32)), {"v": x + 2, "k": x + 3}
    verdict = harness.verify(
        Nested().eval(),
        {"mask": mask, "cache": cache, "state": state, "x": x},
        targets=["trace/torch-cpu", "onnx-torchscript@17/ort-cpu"],
        dynamic={"cache.v": {0: "N"}, "x": {0: "N"}},
    )
    verdict.assert_passed()
    (single,) = harness.verify(nn.ReLU(), np.ones(3, np.float32), "trace/torch-cpu").results
    assert single.status == "passed"


def test_none_by_position_is_not_passed_as_an_input() -> None:
    x, state = torch.ones(1, 1, 3), None
    verdict = harness.verify(nn.LSTM(3, 2).eval(), [x, state], "trace/torch-cpu")
    verdict.assert_passed()


def test_type_checkers_and_the_call_itself_reject_what_is_no_input() -> None:
    with pytest.raises(UsageError, match="str is neither a tensor nor an array"):
        harness.verify(nn.ReLU(), "x", "trace/torch-cpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="x0 is int, not a tensor"):
        harness.verify(nn.ReLU(), [1, 2], "trace/torch-cpu")  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"not a torch\.nn\.Module"):
        harness.verify(torch.relu, torch.ones(2), "trace/torch-cpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="x has dtype object"):
        harness.verify(nn.ReLU(), np.array([None]), "trace/torch-cpu")
    with pytest.raises(UsageError, match="there is no tensor"):
        harness.verify(nn.ReLU(), [None], "trace/torch-cpu")
    with pytest.raises(UsageError, match="must be bound by name"):
        harness.verify(Nested(), {"state": (torch.ones(1),), "y": torch.ones(1)}, "trace/torch-cpu")
    indices = torch.zeros(1, 1, 1, 1, dtype=torch.int64)
    unpooled = harness.verify(nn.MaxUnpool2d(2), {"x": torch.ones(1, 1, 1, 1), "indices": indices}, "trace/torch-cpu")
    assert "must be bound by name" not in str(unpooled.results[0].message)
    with pytest.raises(UsageError, match="input is str, not an array"):
        harness.compare_models(nn.ReLU(), nn.ReLU(), "x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"x\.0 is int, not an array"):
        harness.compare_models(nn.ReLU(), nn.ReLU(), {"x": [1]})  # type: ignore[list-item]
    with pytest.raises(UsageError, match="there is no array"):
        harness.compare_models(nn.ReLU(), nn.ReLU(), [None])


def test_a_misspelt_label_is_not_bound_to_another_parameter() -> None:
    class Masked(torch.nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return x if mask is None else x * mask

    inputs = {"x": torch.randn(2, 3), "msk": torch.randn(2, 3)}
    with pytest.raises(UsageError, match=r"no parameters of forward\(x.*mask.*label every input with its parameter"):
        harness.verify(Masked().eval(), inputs, targets="trace/torch-cpu")


def test_a_refused_module_prints_no_graph(capfd: pytest.CaptureFixture[str]) -> None:
    class Bessel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.special.bessel_j0(x)
            return y

    result = harness.verify(Bessel().eval(), torch.randn(2), targets="onnx-torchscript@17/ort-cpu")
    assert "special_bessel_j0" in str(result)
    assert capfd.readouterr() == ("", "")

    class Chosen(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            chosen = x[torch.where(x > 0)[0]]
            return chosen + 1 if chosen.numel() == 0 else chosen * 2

    result = harness.verify(Chosen().eval(), torch.randn(5), targets="onnx-dynamo@18/ort-cpu")
    assert "Could not guard on data-dependent expression" in str(result)
    assert "def forward" not in "".join(capfd.readouterr())


def test_a_wrong_output_of_a_dict_fails_with_its_path() -> None:
    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(2, divisor_override=3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"pooled": self.pool(x)}

    verified = harness.verify(Pooled().eval(), torch.ones(1, 1, 4, 4), targets="onnx-torchscript@17/ort-cpu")
    (result,) = verified.results
    assert (result.status, result.stage) == ("failed", "compare")
    assert "(pooled)" in str(result.message)
    assert result.pictures
