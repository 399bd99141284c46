"""ONNX Runtime: no silent run on the CPU, stray nodes are named, every dtype passes, memory is not shared."""

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

from harness.errors import Unavailable, Unsupported
from harness.exporters import Artifact
from harness.onnx_arrays import from_array
from harness.registry import plugins
from harness.runtimes import Availability, Placement, Transferring
from harness.runtimes.onnxruntime import library
from harness.runtimes.onnxruntime.library import CPU, PROVIDERS, Provider
from harness.runtimes.onnxruntime.placement import Assigned, place, shape_arithmetic
from harness.runtimes.onnxruntime.runtime import OnnxRuntime
from tests.runtime_models import FLOAT, onnx_file, relu

X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)
CUDA = "CUDAExecutionProvider"

# In the build for the CPU, takes no node of any ordinary model: what a provider without a device does.
IDLE = Provider("idle", "AzureExecutionProvider", "a device")


def ort_cpu() -> Any:
    return plugins("runtimes")["ort-cpu"]


def needs_idle_provider() -> None:
    if IDLE.ep not in library.runtime().get_available_providers():
        pytest.skip(f"this onnxruntime is built without {IDLE.ep}, which stands for a provider that takes no node")


def placement_of(session: Any) -> Placement:
    """Where its nodes ran, once it has run: earlier releases show it by a second run on the same inputs."""
    session.run({"x": X})
    placement = session.placement()
    assert isinstance(placement, Placement)
    return placement


def cast_model(folder: Path, source: int, to: int, shape: list[int | str]) -> Artifact:
    node = helper.make_node("Cast", ["x"], ["output_0"], to=to)
    return onnx_file(folder / "cast.onnx", [node], [("x", source, shape)], [("output_0", to, shape)], opset=19)


def test_a_provider_that_the_build_lacks_is_unavailable_and_says_what_would_bring_it(tmp_path: Path) -> None:
    runtime = OnnxRuntime(Provider("nowhere", "NowhereExecutionProvider", "the moon"))
    available = runtime.availability()
    assert available.missing is not None
    assert "built without NowhereExecutionProvider" in available.missing
    with pytest.raises(Unavailable, match="built without NowhereExecutionProvider; the moon"):
        runtime.load(relu(tmp_path), {})


def test_a_session_that_lost_its_provider_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime drops a provider that does not start, and runs on the CPU without raising."""
    runtime = OnnxRuntime(Provider("cuda", CUDA, "a GPU"))
    ort = library.runtime()
    if CUDA in ort.get_available_providers():
        pytest.skip("CUDA is here, so that nothing is lost")
    present = type(runtime.availability())()
    monkeypatch.setattr(library, "availability", lambda _provider: present)
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(Unavailable, match=f"gave up {CUDA} for CPUExecutionProvider; a GPU"),
    ):
        runtime.load(relu(tmp_path), {})


def test_a_plugin_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text(f"def get_library_path():\n    return {str(tmp_path / 'no.so')!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    available = library.availability(Provider("broken", "BrokenProvider", "mend it", plugins=("broken_plugin",)))
    assert available.missing is not None
    assert available.missing.startswith("broken_plugin does not load: ")


def openvino(bring: str) -> Provider:
    """The provider under another ``bring``: what is found out about a provider is kept."""
    pytest.importorskip("onnxruntime_ep_openvino")
    return replace(next(provider for provider in PROVIDERS if provider.short == "openvino"), bring=bring)


def openvino_on_its_device() -> OnnxRuntime:
    """Asked of onnxruntime itself: what harness says of the provider is what is tested."""
    runtime = OnnxRuntime(openvino("a machine with an Intel CPU"))
    available = runtime.availability()  # which registers the plugin
    if runtime.provider.ep not in {device.ep_name for device in library.runtime().get_ep_devices()}:
        pytest.skip("the OpenVINO plugin drives no device of this machine")
    assert available.present, available.missing
    return runtime


def test_a_plugin_without_a_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "devices", lambda _provider: [])
    available = library.availability(openvino("another machine"))
    assert available.missing == "onnxruntime_ep_openvino finds no device here"
    assert available.lacks_device


def test_a_plugin_with_a_device_runs_there(tmp_path: Path) -> None:
    """onnxruntime lists it by name once it is registered, and leaves it out where it is asked for by name."""
    runtime = openvino_on_its_device()
    session = runtime.load(relu(tmp_path), {"threads": "2"})
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], np.maximum(X, 0))
    placement = session.placement()
    assert placement is not None
    assert placement.nodes == {runtime.provider.ep: {"Relu": 1}}
    assert placement.stray == ()
    assert session.facts()["device"].startswith(f"{runtime.provider.ep} on CPU of ")
    assert "openvino plugin" in session.facts()["version"]


def test_a_node_that_a_device_does_not_take_is_stray(tmp_path: Path) -> None:
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


class Opened(Exception):
    """A session would be opened now."""


def asked_of(kinds: str, options: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a session of a plugin that drives devices of these ``kinds`` would be opened with."""
    runtime = OnnxRuntime(openvino("a machine with them"))
    hardware = [SimpleNamespace(type=SimpleNamespace(name=kind), vendor="Intel") for kind in kinds.split()]
    there = [SimpleNamespace(ep_name=runtime.provider.ep, device=each, ep_metadata={}) for each in hardware]
    asked: dict[str, Any] = {}

    def opened(*given: Any, **named: Any) -> None:
        asked.update(named, chosen=given[3])
        raise Opened

    monkeypatch.setattr(library.runtime(), "get_ep_devices", lambda: there)
    monkeypatch.setattr(library, "availability", lambda _provider: Availability())
    monkeypatch.setattr(library, "open_session", opened)
    with pytest.raises(Opened):
        runtime.load(relu(folder), options)
    return asked


@pytest.mark.parametrize(("kind", "expected"), [("", "CPU"), ("cpu", "CPU"), ("gpu", "GPU"), ("npu", "NPU")])
def test_of_several_devices_one_may_be_asked_for(
    kind: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"device": kind} if kind else {}
    assert asked_of("CPU GPU NPU", options, tmp_path, monkeypatch)["device"].device.type.name == expected


def test_a_kind_of_device_that_is_not_there_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="ort-openvino: it finds no NPU here; it finds CPU of Intel, GPU of Intel"):
        asked_of("CPU GPU", {"device": "npu"}, tmp_path, monkeypatch)


def test_openvino_is_held_to_float32_and_to_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no notice of the number of threads that onnxruntime is told."""
    chosen = asked_of("CPU", {"threads": "3"}, tmp_path, monkeypatch)["chosen"]
    assert json.loads(chosen["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 3},
        "GPU": {"INFERENCE_PRECISION_HINT": "f32"},
    }


def test_a_provider_that_takes_no_node_leaves_every_node_stray(tmp_path: Path) -> None:
    needs_idle_provider()
    placement = placement_of(OnnxRuntime(IDLE).load(relu(tmp_path), {}))
    assert placement.asked == IDLE.ep
    assert placement.nodes == {CPU: {"Relu": 1}}
    assert placement.stray == (f"Relu relu on {CPU}",)


def test_strays_may_be_allowed(tmp_path: Path) -> None:
    needs_idle_provider()
    placement = placement_of(OnnxRuntime(IDLE).load(relu(tmp_path), {"allow": "cpu"}))
    assert placement.nodes == {CPU: {"Relu": 1}}
    assert placement.stray == ()


def test_on_the_cpu_nothing_is_stray(tmp_path: Path) -> None:
    placement = placement_of(ort_cpu().load(relu(tmp_path), {}))
    assert placement.nodes == {CPU: {"Relu": 1}}
    assert placement.stray == ()


def test_a_stray_node_is_named_among_many() -> None:
    nodes = [Assigned(CUDA, "conv", "Conv"), Assigned(CPU, "pool", "MaxPool"), Assigned(CPU, "n", "Shape")]
    placement = place(CUDA, nodes, (), {"n"})
    assert placement.nodes == {CPU: {"MaxPool": 1, "Shape": 1}, CUDA: {"Conv": 1}}
    assert placement.stray == (f"MaxPool pool on {CPU}",)


def test_shape_arithmetic_is_excused_on_the_cpu_only() -> None:
    elsewhere = place(CUDA, [Assigned("DmlExecutionProvider", "n", "Shape")], (), {"n"})
    assert elsewhere.stray == ("Shape n on DmlExecutionProvider",)


def test_shape_arithmetic_is_known_by_what_it_reads_not_by_its_operator() -> None:
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
    assert shape_arithmetic(graph) == {"shape", "width", "twice"}


def test_shape_arithmetic_is_found_in_subgraphs() -> None:
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
    assert shape_arithmetic(helper.make_graph(nodes, "g", [], [])) == {"outer", "inner"}


def test_an_older_onnxruntime_shows_placement_by_a_profiled_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = relu(tmp_path)
    base = library.runtime().InferenceSession.__base__
    monkeypatch.delattr(base, "get_provider_graph_assignment_info", raising=False)
    session = ort_cpu().load(artifact, {})
    assert session.placement() is None, "it has not run yet"
    assert placement_of(session).nodes == {CPU: {"Relu": 1}}


def test_that_run_takes_bfloat16_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, x = onnx.TensorProto.BFLOAT16, np.ones((2, 3), ml_dtypes.bfloat16)
    node = helper.make_node("Identity", ["x"], ["output_0"])
    artifact = onnx_file(tmp_path / "m.onnx", [node], [("x", kind, [2, 3])], [("output_0", kind, [2, 3])])
    base = library.runtime().InferenceSession.__base__
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


def test_tf32_is_off_unless_asked_for_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, a provider of the CPU stands in for CUDA; what it would be told is looked at."""
    given: list[Any] = []
    ort = library.runtime()
    real = ort.InferenceSession

    def watched(path: str, wanted: Any, *, providers: Any, enable_fallback: int) -> Any:
        given.append((providers, enable_fallback))
        return real(path, wanted, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", watched)
    runtime = OnnxRuntime(Provider("cuda", CPU, "a GPU", has_tf32=True))
    off, on = runtime.load(relu(tmp_path), {}), runtime.load(relu(tmp_path), {"tf32": "on"})
    assert [providers for providers, _ in given] == [[(CPU, {"use_tf32": "0"})], [(CPU, {"use_tf32": "1"})]]
    assert {fallback for _, fallback in given} == {0}, "a failing provider must not be replaced while running"
    assert (off.facts()["tf32"], on.facts()["tf32"]) == ("off", "on")
    assert "TF32 on" in on.facts()["precision"]


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16"])
def test_dtypes_that_numpy_lacks_come_and_go(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    number = from_array(np.zeros(1, dtype)).data_type
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (tmp_path / "to").mkdir()
    to = ort_cpu().load(cast_model(tmp_path / "to", FLOAT, number, list(shape)), {}).run({"x": values})["output_0"]
    assert to.dtype == dtype
    assert to.shape == shape
    back = ort_cpu().load(cast_model(tmp_path, number, FLOAT, list(shape)), {})
    np.testing.assert_array_equal(back.run({"x": to})["output_0"], to.astype(np.float32))
    call = back.bind({"x": to})
    call()


def test_an_input_that_is_handed_through_is_not_shared(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["output_0"])
    artifact = onnx_file(tmp_path / "i.onnx", [node], [("x", FLOAT, [2, 3])], [("output_0", FLOAT, [2, 3])])
    given = X.copy()
    answer = ort_cpu().load(artifact, {}).run({"x": given})["output_0"]
    given[:] = 9
    np.testing.assert_array_equal(answer, X)


@pytest.mark.parametrize("iobinding", ["on", "off"])
def test_a_bound_call_computes_what_was_bound(iobinding: str, tmp_path: Path) -> None:
    session = ort_cpu().load(relu(tmp_path), {"iobinding": iobinding})
    assert session.facts()["iobinding"] == iobinding
    call = session.bind({"x": np.full((4, 3), -1.0, np.float32)})
    call()
    session.run({"x": X})
    answer = call()
    assert iobinding == "on" or np.array_equal(answer[0], np.zeros((4, 3)))


def test_layouts_and_negative_strides_are_read_as_values(tmp_path: Path) -> None:
    session = ort_cpu().load(relu(tmp_path), {})
    wide = np.full((2, 6), np.nan, np.float32)
    wide[:, ::2] = X
    np.testing.assert_array_equal(session.run({"x": wide[:, ::2]})["output_0"], np.maximum(X, 0))
    np.testing.assert_array_equal(session.run({"x": X[::-1]})["output_0"], np.maximum(X[::-1], 0))


def test_an_output_that_is_no_tensor_is_unsupported(tmp_path: Path) -> None:
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


def test_a_session_on_the_cpu_transfers_nothing(tmp_path: Path) -> None:
    assert not isinstance(ort_cpu().load(relu(tmp_path), {}), Transferring)


def test_a_device_session_waits_and_transfers(tmp_path: Path) -> None:
    """The logic of a device, shown on the CPU's memory."""
    from harness.runtimes.onnxruntime.session import DeviceOrtSession

    artifact = relu(tmp_path)
    ort = library.runtime()

    def create(profile: str = "") -> Any:
        assert not profile
        return ort.InferenceSession(str(artifact.path), providers=[CPU])

    settings = {"threads": "1", "optimization": "all", "iobinding": "on"}
    cpu = next(provider for provider in PROVIDERS if provider.short == "cpu")
    session = DeviceOrtSession(cpu, settings, artifact.path, create, {}, allowed=(), records=True)
    session.bind({"x": X})()
    carried: Any = session.transfer({"x": X})()
    np.testing.assert_array_equal(carried[0], np.maximum(X, 0))


def test_every_provider_has_a_name_of_its_own_and_something_that_brings_it() -> None:
    assert len({provider.short for provider in PROVIDERS}) == len({provider.ep for provider in PROVIDERS})
    assert all(provider.bring for provider in PROVIDERS)
