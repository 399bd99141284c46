"""What every runtime promises, held against each of those that can run here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import StageError, UsageError
from harness.exporters import Artifact
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.targets import Choosy
from tests.runtime_models import onnx_file, relu, torchscript_file

HERE = ["ort-cpu", "reference", "torch-cpu", "torch-frozen-cpu"]
EXTRA = ["openvino", "tract"]
X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)


def present(name: str) -> Any:
    runtime = plugins("runtimes")[name]
    available = runtime.availability()
    if not available.present and name in EXTRA:
        pytest.skip(f"{name}: {available.missing}; {available.bring}")
    assert available.present, available
    return runtime


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Artifact]:
    return {
        "onnx": relu(tmp_path),
        "torchscript": torchscript_file(tmp_path / "relu.pt", nn.ReLU().eval(), torch.from_numpy(X)),
    }


@pytest.fixture(params=HERE + EXTRA)
def session(request: pytest.FixtureRequest, artifacts: dict[str, Artifact]) -> Any:
    runtime = present(request.param)
    loaded = runtime.load(artifacts[runtime.takes], {})
    yield loaded
    loaded.close()


def test_the_answer_is_right_and_named(session: Session) -> None:
    answer = session.run({"x": X})
    assert list(answer) == ["output_0"]
    np.testing.assert_array_equal(answer["output_0"], np.maximum(X, 0))
    assert answer["output_0"].dtype == np.float32


def test_an_answer_stays_as_it_was_given(session: Session) -> None:
    given = X.copy()
    first = session.run({"x": given})["output_0"]
    kept = first.copy()
    given[:] = 100
    session.run({"x": given})
    np.testing.assert_array_equal(first, kept)
    second = session.run({"x": X})["output_0"]
    second[:] = -7
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], kept)


def test_the_inputs_are_not_changed(session: Session) -> None:
    given = X.copy()
    session.run({"x": given})
    call = session.bind({"x": given})
    call()
    call()
    np.testing.assert_array_equal(given, X)


def test_a_bound_call_does_not_follow_the_callers_array(session: Session) -> None:
    given = X.copy()
    call = session.bind({"x": given})
    given[:] = np.nan
    call()


def test_facts_say_what_figures_depend_on(session: Session) -> None:
    assert {"precision", "threads", "optimization", "device", "version"} <= session.facts().keys()


@pytest.mark.parametrize("name", [*HERE, *EXTRA])
def test_an_unknown_option_is_refused_with_the_nearest_right_one(name: str, artifacts: dict[str, Artifact]) -> None:
    runtime = present(name)
    with pytest.raises(UsageError, match=f"{name} has no such option"):
        runtime.load(artifacts[runtime.takes], {"treads": "1"})
    assert isinstance(runtime, Choosy)
    with pytest.raises(UsageError):
        runtime.check({"treads": "1"})


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ort-cpu", {"optimization": "al"}, "option optimization=al: no such value.*did you mean all"),
        ("ort-cpu", {"threads": "0"}, "option threads=0: not a number of threads; a positive whole number"),
        ("ort-cpu", {"threads": "two"}, "positive whole number"),
        ("ort-cpu", {"threads": "9" * 5000}, "a positive whole number below"),
        ("ort-cpu", {"tf32": "on"}, "ort-cpu has no such option"),
        ("ort-cpu", {"allow": "cpu"}, "ort-cpu has no such option"),
        ("ort-cuda", {"tf32": "maybe"}, "option tf32=maybe: no such value; one of on, off"),
        ("ort-cuda", {"allow": "cpu,gpu"}, "option allow=cpu,gpu: no such value"),
        ("torch-cpu", {"tf32": "on"}, "torch-cpu has no such option"),
        ("torch-cuda", {"tf32": "yes"}, "option tf32=yes: no such value; one of on, off"),
        ("torch-frozen-cpu", {"optimize": "all"}, "one of on, off"),
        ("openvino", {"precision": "f16"}, "one of f32, default"),
    ],
)
def test_an_unknown_value_is_refused(name: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plugins("runtimes")[name].check(options)


@pytest.mark.parametrize("name", ["ort-cuda", "torch-cuda"])
def test_options_of_a_missing_device_can_be_checked(name: str) -> None:
    plugins("runtimes")[name].check({"tf32": "on", "threads": "2"})


def test_every_option_says_what_it_does() -> None:
    for runtime in plugins("runtimes").values():
        for key, line in runtime.options.items():
            assert "default" in line, (runtime.name, key)


def test_availability_of_every_runtime_is_an_answer_never_an_error() -> None:
    for name, runtime in plugins("runtimes").items():
        available = runtime.availability()
        assert runtime.name == name
        assert available.detail if available.present else available.missing and available.bring, name


@pytest.mark.parametrize("name", ["ort-cpu", "reference", "openvino", "tract"])
@pytest.mark.parametrize(
    "given",
    [
        {"y": X},
        {"x": X, "y": X},
        {"x": X[:, :2]},
        {"x": X[0]},
        {"x": X.astype(np.float64)},
        {"x": X.astype(np.int32)},
        {},
    ],
    ids=["another name", "one too many", "another size", "another rank", "float64", "int32", "nothing"],
)
def test_inputs_that_the_model_does_not_declare_are_refused(
    name: str, given: dict[str, Any], artifacts: dict[str, Artifact]
) -> None:
    runtime = present(name)
    session = runtime.load(artifacts["onnx"], {})
    with pytest.raises(Exception, match=r"(?i)x|input|shape|rank") as refused:
        session.run(given)
    assert name == "ort-cpu" or isinstance(refused.value, StageError)


@pytest.mark.parametrize("name", ["ort-cpu", "openvino", "tract"])
def test_a_signal_is_answered_after_sessions_that_overlapped(name: str, artifacts: dict[str, Artifact]) -> None:
    present(name)
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
signal.signal(signal.SIGUSR1, lambda *_: print("answered"))
signal.raise_signal(signal.SIGUSR1)
"""
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (seen.returncode, seen.stdout.strip()) == (0, "answered"), seen.stderr


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
    answer = present(name).load(artifact, {}).run({"x": X})
    assert list(answer) == ["second", "first"]
    np.testing.assert_array_equal(answer["first"], -X)


def test_finding_runtimes_imports_none_of_them() -> None:
    code = (
        "import sys; from harness.registry import plugins; plugins('runtimes');"
        "print(*sorted({'torch', 'onnx', 'onnxruntime', 'openvino', 'tract', 'scipy'} & set(sys.modules)))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == ""
