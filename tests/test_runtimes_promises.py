"""The contract of runtimes, tested with each runtime that is available on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from harness.errors import StageError, Unsupported, UsageError
from harness.exporters import Artifact
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.targets import ChecksOptions
from tests.runtime_models import onnx_file, relu, torchscript_file

INSTALLED = ["ort-cpu", "reference", "torch-cpu", "torch-frozen-cpu"]
OPTIONAL = ["openvino", "tract"]
ONNX_RUNTIMES = ["ort-cpu", "reference", *OPTIONAL]
X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)


def available_runtime(name: str) -> Any:
    runtime = plugins("runtimes")[name]
    available = runtime.availability()
    if not available.present and name in OPTIONAL:
        pytest.skip(available.unavailable_message(name))
    assert available.present, available
    return runtime


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Artifact]:
    return {
        "onnx": relu(tmp_path),
        "torchscript": torchscript_file(tmp_path / "relu.pt", nn.ReLU().eval(), torch.from_numpy(X)),
    }


@pytest.fixture(params=INSTALLED + OPTIONAL)
def session(request: pytest.FixtureRequest, artifacts: dict[str, Artifact]) -> Any:
    runtime = available_runtime(request.param)
    loaded = runtime.load(artifacts[runtime.takes], {})
    yield loaded
    loaded.close()


def test_the_output_is_correct_and_named(session: Session) -> None:
    outputs = session.run({"x": X})
    assert list(outputs) == ["output_0"]
    np.testing.assert_array_equal(outputs["output_0"], np.maximum(X, 0))
    assert outputs["output_0"].dtype == np.float32


def test_an_output_does_not_change_later(session: Session) -> None:
    x = X.copy()
    first = session.run({"x": x})["output_0"]
    expected = first.copy()
    x[:] = 100
    session.run({"x": x})
    np.testing.assert_array_equal(first, expected)
    second = session.run({"x": X})["output_0"]
    second[:] = -7
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], expected)


def test_the_inputs_are_not_changed(session: Session) -> None:
    x = X.copy()
    session.run({"x": x})
    call = session.bind({"x": x})
    call()
    call()
    np.testing.assert_array_equal(x, X)


def test_a_bound_call_does_not_use_the_callers_array(session: Session) -> None:
    x = X.copy()
    call = session.bind({"x": x})
    x[:] = np.nan
    call()


def test_facts_say_what_latencies_depend_on(session: Session) -> None:
    assert {"precision", "threads", "optimization", "device", "version"} <= session.facts().keys()


@pytest.mark.parametrize("name", [*INSTALLED, *OPTIONAL])
def test_an_unknown_option_is_refused(name: str, artifacts: dict[str, Artifact]) -> None:
    runtime = available_runtime(name)
    with pytest.raises(UsageError, match=f"{name} has no such option"):
        runtime.load(artifacts[runtime.takes], {"treads": "1"})
    assert isinstance(runtime, ChecksOptions)
    with pytest.raises(UsageError):
        runtime.check({"treads": "1"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ort-cpu", {"optimization": "al"}, "option optimization=al: unknown value.*did you mean all"),
        ("ort-cpu", {"threads": "0"}, "option threads=0: use a positive whole number"),
        ("ort-cpu", {"threads": "two"}, "positive whole number"),
        ("ort-cpu", {"threads": "9" * 5000}, "use a positive whole number below"),
        ("ort-cpu", {"tf32": "on"}, "ort-cpu has no such option"),
        ("ort-cpu", {"allow": "cpu"}, "ort-cpu has no such option"),
        ("ort-cuda", {"tf32": "maybe"}, "option tf32=maybe: unknown value; use one of on, off"),
        ("ort-cuda", {"allow": "cpu,gpu"}, "option allow=cpu,gpu: unknown value"),
        ("torch-cpu", {"tf32": "on"}, "torch-cpu has no such option"),
        ("torch-cuda", {"tf32": "yes"}, "option tf32=yes: unknown value; use one of on, off"),
        ("torch-frozen-cpu", {"optimize": "all"}, "use one of on, off"),
        ("openvino", {"precision": "f16"}, "use one of f32, default"),
    ],
)
def test_an_unknown_value_is_refused(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plugins("runtimes")[name].check(options)


@pytest.mark.parametrize("name", ["ort-cuda", "torch-cuda"])
def test_options_of_a_missing_device_can_be_checked(name: str) -> None:
    plugins("runtimes")[name].check({"tf32": "on", "threads": "2"})


def test_every_option_has_a_description_with_its_default() -> None:
    for runtime in plugins("runtimes").values():
        for key, line in runtime.options.items():
            assert "default" in line, (runtime.name, key)


def test_availability_of_every_runtime_never_raises() -> None:
    for name, runtime in plugins("runtimes").items():
        available = runtime.availability()
        assert runtime.name == name
        assert available.detail if available.present else available.missing and available.install, name


@pytest.mark.parametrize("name", ["ort-cpu", "reference", "openvino", "tract"])
@pytest.mark.parametrize(
    "inputs",
    [
        {"y": X},
        {"x": X, "y": X},
        {"x": X[:, :2]},
        {"x": X[0]},
        {"x": X.astype(np.float64)},
        {"x": X.astype(np.int32)},
        {},
    ],
    ids=["wrong name", "extra input", "wrong size", "wrong rank", "float64", "int32", "no input"],
)
def test_inputs_that_differ_from_the_declared_ones_are_refused(
    name: str, inputs: dict[str, Any], artifacts: dict[str, Artifact]
) -> None:
    runtime = available_runtime(name)
    session = runtime.load(artifacts["onnx"], {})
    with pytest.raises(Exception, match=r"(?i)x|input|shape|rank") as error:
        session.run(inputs)
    assert name == "ort-cpu" or isinstance(error.value, StageError)


@pytest.mark.parametrize("name", ONNX_RUNTIMES)
@pytest.mark.parametrize("shape", [[-1, 3], [None, 3], ["N", 3], [-7, -1], None], ids=str)
def test_an_open_axis_takes_any_size(name: str, shape: Any, tmp_path: Path) -> None:
    if (name, shape) == ("openvino", None):
        pytest.skip("OpenVINO does not run a model whose number of axes is open")
    session = available_runtime(name).load(relu_of_shape(tmp_path, shape), {})
    for x in (X, X[:1], np.zeros((0, 3), np.float32), np.concatenate([X, X]), X):
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
        session.bind({"x": x})()
    session.close()


@pytest.mark.parametrize("name", ONNX_RUNTIMES)
def test_an_open_axis_does_not_open_the_others(name: str, tmp_path: Path) -> None:
    session = available_runtime(name).load(relu_of_shape(tmp_path, [-1, 3]), {})
    for x in (X[:, :2], X.reshape(-1), X.astype(np.float64)):
        with pytest.raises(Exception, match=r"(?i)x|input|shape|rank"):
            session.run({"x": x})


@pytest.mark.parametrize("name", ONNX_RUNTIMES)
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64"])
def test_open_axes_of_several_inputs_and_dtypes(name: str, dtype: str, tmp_path: Path) -> None:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("Identity", ["b"], ["second"]), helper.make_node("Identity", ["a"], ["first"])]
    inputs = [helper.make_tensor_value_info("a", number, [-1, 2]), helper.make_tensor_value_info("b", number, [3, -1])]
    outputs = [helper.make_tensor_value_info(output, number, None) for output in ("second", "first")]
    session = available_runtime(name).load(save(tmp_path, nodes, inputs, outputs), {})
    a, b = np.ones((4, 2), dtype), np.zeros((3, 5), dtype)
    answer = session.run({"b": b, "a": a})
    np.testing.assert_array_equal(answer["first"], a)
    np.testing.assert_array_equal(answer["second"], b)


@pytest.mark.parametrize("name", ONNX_RUNTIMES)
@pytest.mark.parametrize("shape", [[2, 3], [-1, 3]], ids=str)
def test_an_unsupported_operator_is_named(name: str, shape: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="my.ops", name="strange")]
    x, y = (helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each in "xy")
    artifact = save(tmp_path, nodes, [x], [y], helper.make_opsetid("my.ops", 1))
    with pytest.raises(Unsupported) as caught:
        available_runtime(name).load(artifact, {}).run({"x": X})
    assert "Frobnicate" in str(caught.value)
    assert "\n" not in str(caught.value)


def relu_of_shape(folder: Path, shape: Any) -> Artifact:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    return save(folder, [helper.make_node("Relu", ["x"], ["y"])], [x], [y])


def save(folder: Path, nodes: Any, inputs: Any, outputs: Any, *domains: Any) -> Artifact:
    """A file that ``onnx.checker`` need not accept."""
    opsets = [helper.make_opsetid("", 17), *domains]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=opsets, ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return Artifact("onnx", folder / "model.onnx", "digest", 17)


@pytest.mark.parametrize("name", ["ort-cpu", "openvino", "tract"])
def test_a_signal_handler_runs_after_two_sessions_at_once(name: str, artifacts: dict[str, Artifact]) -> None:
    available_runtime(name)
    code = f"""
import faulthandler, signal
from pathlib import Path
from harness.exporters import Artifact
from harness.registry import plugins

faulthandler.enable()
runtime, artifact = plugins("runtimes")[{name!r}], Artifact("onnx", Path({str(artifacts["onnx"].path)!r}), "")
first, second = runtime.load(artifact, {{}}), runtime.load(artifact, {{}})
for session in first, second:
    session.close()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout.strip()) == (0, "handled"), process.stderr


@pytest.mark.parametrize("name", ["ort-cpu", "reference", "openvino", "tract"])
def test_outputs_keep_the_models_names_and_order(name: str, tmp_path: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("Relu", ["x"], ["second"]), helper.make_node("Neg", ["x"], ["first"])]
    float32 = 1
    artifact = onnx_file(
        tmp_path / "two.onnx",
        nodes,
        [("x", float32, [2, 3])],
        [("second", float32, [2, 3]), ("first", float32, [2, 3])],
    )
    outputs = available_runtime(name).load(artifact, {}).run({"x": X})
    assert list(outputs) == ["second", "first"]
    np.testing.assert_array_equal(outputs["first"], -X)


def test_listing_runtimes_imports_none_of_their_libraries() -> None:
    code = (
        "import sys; from harness.registry import plugins; plugins('runtimes');"
        "print(*sorted({'torch', 'onnx', 'onnxruntime', 'openvino', 'tract', 'scipy'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""


def test_openvino_sends_nothing_about_its_use() -> None:
    """OpenVINO's package for telemetry sends an event when it is imported, and others when a model is converted."""
    available_runtime("openvino")
    code = (
        "import sys; from harness.runtimes.openvino import _core; _core(); print('openvino_telemetry' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]
