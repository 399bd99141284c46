"""The installed onnxruntime: what it was built with, which plugins it has taken in, and which devices they have.

The execution providers that a target can name, and what brings each of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from harness.environment import onnxruntime_builds
from harness.runtimes import Availability


@cache
def availability(provider: Provider) -> Availability:
    """Whether the installed onnxruntime offers ``provider`` and a device for it is there.

    A provider other than the CPU's is made to take a model: that it is listed proves nothing.
    """
    if find_spec("onnxruntime") is None:
        return Availability("onnxruntime is not installed", provider.bring)
    try:
        ort = runtime()
    except (ImportError, OSError) as error:
        return Availability(f"onnxruntime does not load: {error}", provider.bring)
    build = f"{', '.join(onnxruntime_builds()) or 'onnxruntime'} {ort.__version__}"
    if provider.ep == CPU:
        return Availability(detail=build)
    registered, trouble = _register(provider.plugins)
    if trouble:
        return Availability(trouble, provider.bring, build)
    found = devices(provider) if registered else []
    if registered and not found:
        return Availability(f"{', '.join(registered)} finds no device here", provider.bring, build, lacks_device=True)
    if provider.ep not in ort.get_available_providers():
        return Availability(f"{build} is built without {provider.ep}", provider.bring, build)
    return _probed(provider, build, found)


@cache
def runtime() -> ModuleType:
    """The module ``onnxruntime``, with the CUDA libraries that torch brought, where both are there.

    Raises ``ImportError`` or ``OSError`` where it does not load.
    """
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and hasattr(onnxruntime, "preload_dlls"):
        if find_spec("torch") is not None:
            import_module("torch")  # its libraries are found once it is loaded
        onnxruntime.preload_dlls()
    loaded: ModuleType = onnxruntime
    return loaded


def devices(provider: Provider, kind: str = "") -> list[Any]:
    """The devices that ``provider`` has through the plugin interface: none where it is built in the older way.

    ``kind`` is that of the hardware, ``cpu``, ``gpu`` or ``npu``; without one, all are told.
    """
    ort = runtime()
    if not hasattr(ort, "get_ep_devices"):
        return []
    found = [each for each in ort.get_ep_devices() if each.ep_name == provider.ep]
    return [each for each in found if kind in ("", each.device.type.name.lower())]


def described(provider: Provider, device: Any) -> dict[str, str]:
    """What a session runs on: the ``device`` in words, and the ``version`` of onnxruntime and of a plugin."""
    version = f"onnxruntime {runtime().__version__}"
    if device is None:
        return {"device": provider.ep, "version": version}
    of_plugin = device.ep_metadata.get("version")
    return {
        "device": f"{provider.ep} on {named(device)}",
        "version": f"{version}, {provider.short} plugin {of_plugin}" if of_plugin else version,
    }


def named(device: Any) -> str:
    """A device in words: ``CPU of Intel``."""
    return f"{device.device.type.name} of {device.device.vendor or device.ep_vendor}"


@cache
def _register(plugins: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Those of the plugin modules that onnxruntime has taken in, and what went wrong with one of them.

    A library is registered once in a process and stays.
    """
    taken: list[str] = []
    for name in plugins:
        if find_spec(name) is None:
            continue
        try:
            runtime().register_execution_provider_library(name, import_module(name).get_library_path())
        except Exception as error:  # noqa: BLE001 - plugins and onnxruntime raise bare Exceptions; it is told
            return tuple(taken), f"{name} does not load: {str(error).splitlines()[0]}"
        taken.append(name)
    return tuple(taken), ""


def open_session(
    provider: Provider,
    model: str | bytes,
    wanted: Any,
    chosen: Mapping[str, str],
    *,
    device: Any,
    others: Iterable[str] = (),
) -> Any:
    """An ``InferenceSession`` on ``provider`` that does not fall back to the CPU when the provider fails.

    ``model`` is a path or the bytes of a file, ``wanted`` the session's options, ``chosen`` the provider's, and
    ``others`` are the providers for nodes that it does not take. A provider that a plugin carries needs its ``device``:
    onnxruntime lists it by name too, and asked for by name leaves it out without a word.
    """
    session = runtime().InferenceSession
    if device is not None:
        wanted.add_provider_for_devices([device], dict(chosen))
        return session(model, wanted, enable_fallback=0)
    providers = [(provider.ep, dict(chosen)), *((ep, {}) for ep in others)]
    return session(model, wanted, providers=providers, enable_fallback=0)


def _probed(provider: Provider, build: str, found: Sequence[Any]) -> Availability:
    """Whether a session on a one-node model comes up with ``provider``, on the first device ``found``."""
    from onnx import TensorProto, helper

    ort = runtime()
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    device = next(iter(found), None)
    try:
        session = open_session(provider, model.SerializeToString(), settings, provider.quirks(1), device=device)
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base; it is told
        said = f"{provider.ep} does not start: {str(error).splitlines()[0]}"
        return Availability(said, provider.bring, build, lacks_device=True)
    if provider.ep not in session.get_providers():
        said = f"{build} offers {provider.ep}, and it finds no device or library on this {sys.platform} machine"
        return Availability(said, provider.bring, build, lacks_device=True)
    where = f": {', '.join(map(named, found))}" if found else ""
    return Availability(detail=f"{build}, {provider.ep}{where}")


CPU = "CPUExecutionProvider"


def _none(_threads: int) -> dict[str, str]:
    return {}


def _openvino(threads: int) -> dict[str, str]:
    """OpenVINO computes float32 models in bfloat16 or float16 where the hardware likes that better, unless told not to.

    Of the number of threads, which onnxruntime is told as well, it takes no notice from there.
    """
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return {"load_config": json.dumps({"CPU": {**exact, "INFERENCE_NUM_THREADS": threads}, "GPU": exact})}


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider: ``ort-<short>`` is its runtime, ``ep`` is what ONNX Runtime calls it.

    ``bring`` is the step that brings it where it is missing. ``memory`` is ONNX Runtime's name of the memory that its
    outputs stay in. ``plugins`` are modules that carry it as a plugin library. ``quirks`` tells the provider options
    that are always set, for a number of threads.
    """

    short: str
    ep: str
    bring: str
    memory: str = "cpu"
    plugins: tuple[str, ...] = ()
    quirks: Callable[[int], dict[str, str]] = _none
    has_tf32: bool = False


def _wheel(name: str, where: str) -> str:
    """Every build of onnxruntime holds the same module, so that each needs an environment of its own."""
    return f"in a fresh environment without onnxruntime, pip install {name}, {where}"


def _source(flag: str, where: str) -> str:
    return f"an onnxruntime built with {flag}, {where}"


PROVIDERS = (
    Provider("cpu", CPU, "pip install onnxruntime, or the build of it that this machine needs"),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "in a fresh environment, pip install 'parity-harness[cuda]', on a machine with an NVIDIA GPU",
        memory="cuda",
        has_tf32=True,
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        _wheel("onnxruntime-gpu tensorrt", "on a machine with an NVIDIA GPU"),
        memory="cuda",
    ),
    Provider(
        "tensorrt-rtx",
        "NvTensorRTRTXExecutionProvider",
        "pip install onnxruntime-ep-nv-tensorrt-rtx, on a machine with an NVIDIA RTX GPU",
        plugins=("onnxruntime_ep_nv_tensorrt_rtx",),
    ),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        "pip install onnxruntime-ep-openvino, on a machine with an Intel CPU, GPU or NPU",
        plugins=("onnxruntime_ep_openvino",),
        quirks=_openvino,
    ),
    Provider("dnnl", "DnnlExecutionProvider", _source("--use_dnnl", "on an x86-64 or Arm CPU")),
    Provider("xnnpack", "XnnpackExecutionProvider", _source("--use_xnnpack", "on an Arm or x86-64 CPU")),
    Provider("acl", "ACLExecutionProvider", _source("--use_acl", "on an Arm CPU")),
    Provider("armnn", "ArmNNExecutionProvider", _source("--use_armnn", "on an Arm CPU")),
    Provider("dml", "DmlExecutionProvider", _wheel("onnxruntime-directml", "on Windows with a DirectX 12 GPU")),
    Provider(
        "webgpu",
        "WebGpuExecutionProvider",
        "pip install onnxruntime-ep-webgpu, on a machine with a GPU that Vulkan, Metal or Direct3D 12 can drive",
        plugins=("onnxruntime_ep_webgpu",),
    ),
    Provider("rocm", "ROCMExecutionProvider", _wheel("onnxruntime-rocm", "on a machine with an AMD GPU")),
    Provider("migraphx", "MIGraphXExecutionProvider", _wheel("onnxruntime-migraphx", "on a machine with an AMD GPU")),
    Provider("coreml", "CoreMLExecutionProvider", "pip install onnxruntime, on macOS"),
    Provider(
        "qnn",
        "QNNExecutionProvider",
        "pip install onnxruntime-qnn, on a machine with a Qualcomm NPU",
        plugins=("onnxruntime_qnn",),
    ),
    Provider("cann", "CANNExecutionProvider", _wheel("onnxruntime-cann", "on a machine with a Huawei Ascend NPU")),
    Provider("vitisai", "VitisAIExecutionProvider", _source("--use_vitisai", "on a machine with an AMD NPU or FPGA")),
    Provider("nnapi", "NnapiExecutionProvider", _source("--use_nnapi", "on Android")),
    Provider("rknpu", "RknpuExecutionProvider", _source("--use_rknpu", "on a Rockchip board with an NPU")),
    Provider("vsinpu", "VSINPUExecutionProvider", _source("--use_vsinpu", "on a board with a VeriSilicon NPU")),
)

BY_SHORT = {provider.short: provider for provider in PROVIDERS}
