"""ONNX Runtime: no silent run on the CPU, stray nodes are named, all dtypes work, memory is not shared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.data_files.onnx_files import from_array
from harness.errors import Unavailable, Unsupported
from harness.exporters import Artifact
from harness.registry import plugins
from harness.runtimes import Availability, Placement, Transferring
from harness.runtimes.onnxruntime import OnnxRuntime, library
from harness.runtimes.onnxruntime.library import CPU, PROVIDERS, Provider
from harness.runtimes.onnxruntime.placement import PlacedNode, count_nodes, shape_nodes
from tests.runtime_models import FLOAT, onnx_file, relu

X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)
CUDA = "CUDAExecutionProvider"

# A provider in the CPU build. It takes no node of an ordinary model, like a provider without a device.
IDLE = Provider("idle", "AzureExecutionProvider", "a device")


def ort_cpu() -> Any:
    return plugins("runtimes")["ort-cpu"]


def require_idle_provider() -> None:
    if IDLE.ep not in library.load_onnxruntime().get_available_providers():
        pytest.skip(f"this onnxruntime is built without {IDLE.ep}, the provider that takes no node")


def placement_of(session: Any) -> Placement:
    """The placement after a run: older releases get it from a second run on the same inputs."""
    session.run({"x": X})
    placement = session.placement()
    assert isinstance(placement, Placement)
    return placement


def cast_model(folder: Path, source: int, to: int, shape: list[int | str]) -> Artifact:
    node = helper.make_node("Cast", ["x"], ["output_0"], to=to)
    return onnx_file(folder / "cast.onnx", [node], [("x", source, shape)], [("output_0", to, shape)], opset=19)


def test_a_provider_that_the_build_lacks_is_unavailable_with_instructions(tmp_path: Path) -> None:
    runtime = OnnxRuntime(Provider("nowhere", "NowhereExecutionProvider", "another build"))
    available = runtime.availability()
    assert available.missing is not None
    assert "built without NowhereExecutionProvider" in available.missing
    with pytest.raises(Unavailable, match="built without NowhereExecutionProvider; install with: another build"):
        runtime.load(relu(tmp_path), {})


def test_a_session_whose_provider_was_dropped_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime drops a provider that does not start, and runs on the CPU without raising."""
    runtime = OnnxRuntime(Provider("cuda", CUDA, "a GPU"))
    ort = library.load_onnxruntime()
    if CUDA in ort.get_available_providers():
        pytest.skip("CUDA is available, so nothing is dropped")
    monkeypatch.setattr(library, "availability", lambda _provider: Availability())
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(Unavailable, match=f"dropped {CUDA} and would run on CPUExecutionProvider; install with: a GPU"),
    ):
        runtime.load(relu(tmp_path), {})


def test_a_plugin_that_does_not_load_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text(f"def get_library_path():\n    return {str(tmp_path / 'no.so')!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    available = library.availability(Provider("broken", "BrokenProvider", "repair it", plugins=("broken_plugin",)))
    assert available.missing is not None
    assert available.missing.startswith("broken_plugin does not load: ")


def openvino(install: str) -> Provider:
    """The provider with another ``install``: the availability of equal providers is cached."""
    pytest.importorskip("onnxruntime_ep_openvino")
    return replace(next(provider for provider in PROVIDERS if provider.short_name == "openvino"), install=install)


def openvino_on_its_device() -> OnnxRuntime:
    """Skip by the devices that onnxruntime lists, because the test checks harness's report of the provider."""
    runtime = OnnxRuntime(openvino("a machine with an Intel CPU"))
    available = runtime.availability()  # which registers the plugin
    if runtime.provider.ep not in {device.ep_name for device in library.load_onnxruntime().get_ep_devices()}:
        pytest.skip("the OpenVINO plugin finds no device on this machine")
    assert available.present, available.missing
    return runtime


def test_a_plugin_without_a_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "devices", lambda _provider: [])
    available = library.availability(openvino("another machine"))
    assert available.missing == "onnxruntime_ep_openvino finds no device on this machine"
    assert available.lacks_device


def test_a_plugin_with_a_device_runs_on_it(tmp_path: Path) -> None:
    """onnxruntime lists the provider by name once it is registered, but ignores a request by name."""
    runtime = openvino_on_its_device()
    session = runtime.load(relu(tmp_path), {"threads": "2"})
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], np.maximum(X, 0))
    placement = session.placement()
    assert placement is not None
    assert placement.nodes == {runtime.provider.ep: {"Relu": 1}}
    assert placement.stray == ()
    assert session.facts()["device"].startswith(f"{runtime.provider.ep} on CPU of ")
    assert "openvino plugin" in session.facts()["version"]


def test_a_node_that_the_device_does_not_take_is_stray(tmp_path: Path) -> None:
    runtime = openvino_on_its_device()
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Col2Im", ["r", "image", "block"], ["output_0"])]
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in (("image", [4]), ("block", [2]))]
    artifact = onnx_file(
        tmp_path / "folds.onnx",
        nodes,
        [("x", FLOAT, [1, 2, 3])],
        [("output_0", FLOAT, [1, 1, 4])],
        opset=18,
        initializers=constants,
    )
    session = runtime.load(artifact, {})
    placement = session.placement()
    assert placement is not None
    assert placement.nodes == {runtime.provider.ep: {"Relu": 1}, CPU: {"Col2Im": 1}}
    assert placement.stray == (f"Col2Im on {CPU}",)


class SessionOpened(Exception):
    """Raised instead of opening a session."""


def session_arguments(
    kinds: str, options: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The arguments that a session is opened with, for a plugin that has devices of these ``kinds``."""
    runtime = OnnxRuntime(openvino("a machine with these devices"))
    hardware = [SimpleNamespace(type=SimpleNamespace(name=kind), vendor="Intel") for kind in kinds.split()]
    devices = [SimpleNamespace(ep_name=runtime.provider.ep, device=device, ep_metadata={}) for device in hardware]
    arguments: dict[str, Any] = {}

    def open_session(*args: Any, **kwargs: Any) -> None:
        arguments.update(kwargs, provider_options=args[3])
        raise SessionOpened

    monkeypatch.setattr(library.load_onnxruntime(), "get_ep_devices", lambda: devices)
    monkeypatch.setattr(library, "availability", lambda _provider: Availability())
    monkeypatch.setattr(library, "open_session", open_session)
    with pytest.raises(SessionOpened):
        runtime.load(relu(folder), options)
    return arguments


@pytest.mark.parametrize(("kind", "expected"), [("", "CPU"), ("cpu", "CPU"), ("gpu", "GPU"), ("npu", "NPU")])
def test_the_target_selects_one_of_several_devices(
    kind: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"device": kind} if kind else {}
    assert session_arguments("CPU GPU NPU", options, tmp_path, monkeypatch)["device"].device.type.name == expected


def test_a_kind_of_device_that_is_missing_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="ort-openvino: no NPU found; found: CPU of Intel, GPU of Intel"):
        session_arguments("CPU GPU", {"device": "npu"}, tmp_path, monkeypatch)


def test_openvino_gets_float32_and_the_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO ignores the number of threads in onnxruntime's session options."""
    arguments = session_arguments("CPU", {"threads": "3"}, tmp_path, monkeypatch)
    assert json.loads(arguments["provider_options"]["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 3},
        "GPU": {"INFERENCE_PRECISION_HINT": "f32"},
    }


def test_all_nodes_are_stray_if_the_provider_takes_none(tmp_path: Path) -> None:
    require_idle_provider()
    placement = placement_of(OnnxRuntime(IDLE).load(relu(tmp_path), {}))
    assert placement.asked == IDLE.ep
    assert placement.nodes == {CPU: {"Relu": 1}}
    assert placement.stray == (f"Relu relu on {CPU}",)


def test_the_target_may_allow_stray_nodes(tmp_path: Path) -> None:
    require_idle_provider()
    placement = placement_of(OnnxRuntime(IDLE).load(relu(tmp_path), {"allow": "cpu"}))
    assert placement.nodes == {CPU: {"Relu": 1}}
    assert placement.stray == ()


def test_no_node_is_stray_on_the_cpu(tmp_path: Path) -> None:
    placement = placement_of(ort_cpu().load(relu(tmp_path), {}))
    assert placement.nodes == {CPU: {"Relu": 1}}
    assert placement.stray == ()


def test_a_stray_node_is_named() -> None:
    nodes = [PlacedNode(CUDA, "conv", "Conv"), PlacedNode(CPU, "pool", "MaxPool"), PlacedNode(CPU, "n", "Shape")]
    placement = count_nodes(CUDA, nodes, (), {"n"})
    assert placement.nodes == {CPU: {"MaxPool": 1, "Shape": 1}, CUDA: {"Conv": 1}}
    assert placement.stray == (f"MaxPool pool on {CPU}",)


def test_shape_arithmetic_is_allowed_on_the_cpu_only() -> None:
    placement = count_nodes(CUDA, [PlacedNode("DmlExecutionProvider", "n", "Shape")], (), {"n"})
    assert placement.stray == ("Shape n on DmlExecutionProvider",)


def test_shape_arithmetic_is_recognised_by_inputs_not_by_operator() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="shape"),
        helper.make_node("Constant", [], ["one"], name="one", value_int=1),
        helper.make_node("Gather", ["s", "one"], ["width"], name="width"),
        helper.make_node("Mul", ["width", "two"], ["twice"], name="twice"),
        helper.make_node("Gather", ["x", "one"], ["row"], name="row"),
        helper.make_node("Mul", ["x", "x"], ["square"], name="square"),
        helper.make_node("Expand", ["x", "twice"], ["big"], name="expand"),
        helper.make_node("Mul", ["one", "two"], ["constant"], name="constants"),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.array(2), "two")])
    assert shape_nodes(graph) == {"shape", "width", "twice"}


def test_shape_arithmetic_is_recognised_in_subgraphs() -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["s"], ["n"], name="inner"), helper.make_node("Neg", ["x"], ["m"], name="data")],
        "inner",
        [],
        [],
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="outer"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=inner, else_branch=inner),
    ]
    assert shape_nodes(helper.make_graph(nodes, "g", [], [])) == {"outer", "inner"}


def test_an_older_onnxruntime_shows_placement_by_a_profiled_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = relu(tmp_path)
    base = library.load_onnxruntime().InferenceSession.__base__
    monkeypatch.delattr(base, "get_provider_graph_assignment_info", raising=False)
    session = ort_cpu().load(artifact, {})
    assert session.placement() is None, "it has not run yet"
    assert placement_of(session).nodes == {CPU: {"Relu": 1}}


def test_the_profiled_run_takes_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, x = onnx.TensorProto.BFLOAT16, np.ones((2, 3), ml_dtypes.bfloat16)
    node = helper.make_node("Identity", ["x"], ["output_0"])
    artifact = onnx_file(tmp_path / "m.onnx", [node], [("x", kind, [2, 3])], [("output_0", kind, [2, 3])])
    base = library.load_onnxruntime().InferenceSession.__base__
    monkeypatch.delattr(base, "get_provider_graph_assignment_info", raising=False)
    session = ort_cpu().load(artifact, {})
    assert session.run({"x": x})["output_0"].dtype == x.dtype
    assert session.placement().nodes == {CPU: {"Identity": 1}}


def test_options_reach_the_session(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Relu", ["r"], ["output_0"])]
    nodes = [helper.make_node("Identity", ["x"], ["i"], name="identity"), *nodes]
    nodes[1].input[0] = "i"
    artifact = onnx_file(tmp_path / "m.onnx", nodes, [("x", FLOAT, [2, 3])], [("output_0", FLOAT, [2, 3])])
    plain = ort_cpu().load(artifact, {"optimization": "disabled", "threads": "2"})
    assert "Identity" in placement_of(plain).nodes[CPU]
    assert plain.facts()["optimization"] == "disabled"
    assert plain.facts()["threads"] == 2
    assert "Identity" not in placement_of(ort_cpu().load(artifact, {})).nodes[CPU]


def test_an_approximated_gelu_gives_other_values_and_is_reported(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["output_0"], domain="com.microsoft")
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    values = [helper.make_tensor_value_info(name, FLOAT, [64]) for name in ("x", "output_0")]
    model = helper.make_model(
        helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=domains, ir_version=8
    )
    onnx.save(model, str(tmp_path / "gelu.onnx"))
    artifact = Artifact("onnx", tmp_path / "gelu.onnx", "")
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    exact, approximate = (ort_cpu().load(artifact, options) for options in ({}, {"gelu": "approximate"}))
    error = np.abs(exact.run({"x": x})["output_0"] - approximate.run({"x": x})["output_0"]).max()
    assert 1e-5 < error < 1e-3
    assert (exact.facts()["precision"], approximate.facts()["precision"]) == (
        "as exported",
        "as exported, Gelu approximated",
    )


def test_tf32_is_off_by_default_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: a provider for the CPU replaces CUDA, and the test looks at the arguments of the session."""
    calls: list[Any] = []
    ort = library.load_onnxruntime()
    original = ort.InferenceSession

    def recording(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        calls.append((providers, enable_fallback))
        return original(path, options, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", recording)
    runtime = OnnxRuntime(Provider("cuda", CPU, "a GPU", has_tf32=True))
    off, on = runtime.load(relu(tmp_path), {}), runtime.load(relu(tmp_path), {"tf32": "on"})
    assert [providers for providers, _ in calls] == [[(CPU, {"use_tf32": "0"})], [(CPU, {"use_tf32": "1"})]]
    assert {fallback for _, fallback in calls} == {0}, "a failing provider must not be replaced while running"
    assert (off.facts()["tf32"], on.facts()["tf32"]) == ("off", "on")
    assert "TF32 on" in on.facts()["precision"]


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16"])
def test_ml_dtypes_as_inputs_and_outputs(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    number = from_array(np.zeros(1, dtype)).data_type
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (tmp_path / "to").mkdir()
    to_dtype = ort_cpu().load(cast_model(tmp_path / "to", FLOAT, number, list(shape)), {})
    cast = to_dtype.run({"x": values})["output_0"]
    assert cast.dtype == dtype
    assert cast.shape == shape
    from_dtype = ort_cpu().load(cast_model(tmp_path, number, FLOAT, list(shape)), {})
    np.testing.assert_array_equal(from_dtype.run({"x": cast})["output_0"], cast.astype(np.float32))
    call = from_dtype.bind({"x": cast})
    call()


def test_an_output_does_not_share_the_memory_of_an_input(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["output_0"])
    artifact = onnx_file(tmp_path / "i.onnx", [node], [("x", FLOAT, [2, 3])], [("output_0", FLOAT, [2, 3])])
    x = X.copy()
    output = ort_cpu().load(artifact, {}).run({"x": x})["output_0"]
    x[:] = 9
    np.testing.assert_array_equal(output, X)


@pytest.mark.parametrize("iobinding", ["on", "off"])
def test_a_bound_call_uses_the_bound_inputs(iobinding: str, tmp_path: Path) -> None:
    session = ort_cpu().load(relu(tmp_path), {"iobinding": iobinding})
    assert session.facts()["iobinding"] == iobinding
    call = session.bind({"x": np.full((4, 3), -1.0, np.float32)})
    call()
    session.run({"x": X})
    outputs = call()
    assert iobinding == "on" or np.array_equal(outputs[0], np.zeros((4, 3)))


def test_strided_inputs_are_read_by_value(tmp_path: Path) -> None:
    session = ort_cpu().load(relu(tmp_path), {})
    wide = np.full((2, 6), np.nan, np.float32)
    wide[:, ::2] = X
    np.testing.assert_array_equal(session.run({"x": wide[:, ::2]})["output_0"], np.maximum(X, 0))
    np.testing.assert_array_equal(session.run({"x": X[::-1]})["output_0"], np.maximum(X[::-1], 0))


def test_an_output_that_is_not_a_tensor_is_unsupported(tmp_path: Path) -> None:
    node = helper.make_node("SequenceConstruct", ["x"], ["s"])
    x = helper.make_tensor_value_info("x", FLOAT, [2, 3])
    s = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [s]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.save(model, tmp_path / "s.onnx")
    session = ort_cpu().load(Artifact("onnx", tmp_path / "s.onnx", "d", 17), {})
    with pytest.raises(Unsupported, match="s is a seq"):
        session.run({"x": X})


def test_a_session_on_the_cpu_has_no_transfer(tmp_path: Path) -> None:
    assert not isinstance(ort_cpu().load(relu(tmp_path), {}), Transferring)


def test_a_device_session_waits_and_transfers(tmp_path: Path) -> None:
    """The code for a device, run on the memory of the CPU."""
    from harness.runtimes.onnxruntime.session import DeviceOrtSession

    artifact = relu(tmp_path)
    ort = library.load_onnxruntime()

    def create(profile: str = "") -> Any:
        assert not profile
        return ort.InferenceSession(str(artifact.path), providers=[CPU])

    settings = {"threads": "1", "optimization": "all", "iobinding": "on"}
    cpu = next(provider for provider in PROVIDERS if provider.short_name == "cpu")
    session = DeviceOrtSession(cpu, settings, artifact.path, create, {}, allowed=(), records_placement=True)
    session.bind({"x": X})()
    outputs: Any = session.transfer({"x": X})()
    np.testing.assert_array_equal(outputs[0], np.maximum(X, 0))


def test_every_provider_has_unique_names_and_installation_instructions() -> None:
    assert len({provider.short_name for provider in PROVIDERS}) == len({provider.ep for provider in PROVIDERS})
    assert all(provider.install for provider in PROVIDERS)


def test_products_in_bfloat16_are_off_by_default_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an Arm CPU: the test looks at the settings of the session."""
    entries: list[tuple[str, str]] = []
    ort = library.load_onnxruntime()

    class Recording(ort.SessionOptions):  # type: ignore[misc, name-defined]  # an untyped class
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(ort, "SessionOptions", Recording)
    artifact = cast_model(tmp_path, FLOAT, onnx.TensorProto.DOUBLE, [2])
    precisions = [str(ort_cpu().load(artifact, options).facts()["precision"]) for options in ({}, {"fastmath": "on"})]
    assert precisions == ["as exported", "as exported, bfloat16 products allowed on Arm"]
    assert [key for key, _ in entries].count("mlas.enable_gemm_fastmath_arm64_bfloat16") == 1
