"""The installed onnxruntime: its execution providers, their plugins and devices, and how to open a session on one.

This is the only module that imports onnxruntime.
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

CPU = "CPUExecutionProvider"
LOG_FATAL_ONLY = 4  # errors also come back as exceptions, so onnxruntime need not log them


def _no_options(_threads: int) -> dict[str, str]:
    return {}


def _openvino_options(threads: int) -> dict[str, str]:
    """Set float32 and the number of threads.

    By default OpenVINO computes float32 models in bfloat16 or float16 if the hardware prefers it. It ignores the number
    of threads that the session options of onnxruntime set.
    """
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return {"load_config": json.dumps({"CPU": {**exact, "INFERENCE_NUM_THREADS": threads}, "GPU": exact})}


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider. ``ort-<short_name>`` is its runtime; ``ep`` is its name in ONNX Runtime.

    ``install`` is the command or the step that makes it available. ``memory`` is ONNX Runtime's name of the memory that
    its outputs stay in. ``plugins`` are Python modules with the provider as a plugin library. ``fixed_options`` returns
    the provider options that are always set, for a number of threads.
    """

    short_name: str
    ep: str
    install: str
    memory: str = "cpu"
    plugins: tuple[str, ...] = ()
    fixed_options: Callable[[int], dict[str, str]] = _no_options
    has_tf32: bool = False


def _wheel(package: str, machine: str) -> str:
    """Every build of onnxruntime installs the same Python module, so each needs its own environment."""
    return f"in a fresh environment without onnxruntime, pip install {package}, {machine}"


def _source_build(flag: str, machine: str) -> str:
    return f"an onnxruntime built with {flag}, {machine}"


PROVIDERS = (
    Provider("cpu", CPU, "pip install onnxruntime, or the build of it for this machine"),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        _wheel("onnxruntime-gpu", "on a machine with an NVIDIA GPU"),
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
        fixed_options=_openvino_options,
    ),
    Provider("dnnl", "DnnlExecutionProvider", _source_build("--use_dnnl", "on an x86-64 or Arm CPU")),
    Provider("xnnpack", "XnnpackExecutionProvider", _source_build("--use_xnnpack", "on an Arm or x86-64 CPU")),
    Provider("acl", "ACLExecutionProvider", _source_build("--use_acl", "on an Arm CPU")),
    Provider("armnn", "ArmNNExecutionProvider", _source_build("--use_armnn", "on an Arm CPU")),
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
    Provider(
        "vitisai", "VitisAIExecutionProvider", _source_build("--use_vitisai", "on a machine with an AMD NPU or FPGA")
    ),
    Provider("nnapi", "NnapiExecutionProvider", _source_build("--use_nnapi", "on Android")),
    Provider("rknpu", "RknpuExecutionProvider", _source_build("--use_rknpu", "on a Rockchip board with an NPU")),
    Provider("vsinpu", "VSINPUExecutionProvider", _source_build("--use_vsinpu", "on a board with a VeriSilicon NPU")),
)
PROVIDERS_BY_SHORT_NAME = {provider.short_name: provider for provider in PROVIDERS}


@cache
def load_onnxruntime() -> ModuleType:
    """The module ``onnxruntime``, with the CUDA libraries that torch installed, if both support CUDA.

    Raises ``ImportError`` or ``OSError`` if it does not load.
    """
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and hasattr(onnxruntime, "preload_dlls"):
        if find_spec("torch") is not None:
            import_module("torch")  # its libraries are found once it is loaded
        onnxruntime.preload_dlls()
    loaded: ModuleType = onnxruntime
    return loaded


@cache
def availability(provider: Provider) -> Availability:
    """Whether the installed onnxruntime has ``provider`` and a device for it.

    For a provider other than the CPU's, a session is opened: that onnxruntime lists the provider proves nothing.
    """
    if find_spec("onnxruntime") is None:
        return Availability("onnxruntime is not installed", provider.install)
    try:
        ort = load_onnxruntime()
    except (ImportError, OSError) as error:
        return Availability(f"onnxruntime does not load: {error}", provider.install)
    build = f"{', '.join(onnxruntime_builds()) or 'onnxruntime'} {ort.__version__}"
    if provider.ep == CPU:
        return Availability(detail=build)
    registered, problem = _register_plugins(provider.plugins)
    if problem:
        return Availability(problem, provider.install, build)
    plugin_devices = devices(provider) if registered else []
    if registered and not plugin_devices:
        missing = f"{', '.join(registered)} finds no device on this machine"
        return Availability(missing, provider.install, build, lacks_device=True)
    if provider.ep not in ort.get_available_providers():
        return Availability(f"{build} is built without {provider.ep}", provider.install, build)
    return _try_session(provider, build, plugin_devices)


@cache
def _register_plugins(plugins: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The plugin modules that onnxruntime registered, and the problem with one that it did not; "" if there is none.

    A library is registered once in a process and stays registered.
    """
    registered: list[str] = []
    for name in plugins:
        if find_spec(name) is None:
            continue
        try:
            load_onnxruntime().register_execution_provider_library(name, import_module(name).get_library_path())
        except Exception as error:  # noqa: BLE001 - plugins and onnxruntime raise bare Exceptions; it is reported
            return tuple(registered), f"{name} does not load: {str(error).splitlines()[0]}"
        registered.append(name)
    return tuple(registered), ""


def _try_session(provider: Provider, build: str, plugin_devices: Sequence[Any]) -> Availability:
    """Whether a session of a one-node model starts with ``provider``, on the first of ``plugin_devices`` if any."""
    from onnx import TensorProto, helper

    ort = load_onnxruntime()
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session_options = ort.SessionOptions()
    session_options.log_severity_level = LOG_FATAL_ONLY
    device = next(iter(plugin_devices), None)
    options = provider.fixed_options(1)
    try:
        session = open_session(provider, model.SerializeToString(), session_options, options, device=device)
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base; it is reported
        missing = f"{provider.ep} does not start: {str(error).splitlines()[0]}"
        return Availability(missing, provider.install, build, lacks_device=True)
    if provider.ep not in session.get_providers():
        missing = f"{build} has {provider.ep}, but it finds no device or library on this {sys.platform} machine"
        return Availability(missing, provider.install, build, lacks_device=True)
    names = f": {', '.join(map(device_name, plugin_devices))}" if plugin_devices else ""
    return Availability(detail=f"{build}, {provider.ep}{names}")


def open_session(
    provider: Provider,
    model: str | bytes,
    session_options: Any,
    provider_options: Mapping[str, str],
    *,
    device: Any,
    fallback_providers: Iterable[str] = (),
) -> Any:
    """An ``InferenceSession`` on ``provider`` that does not fall back to the CPU if the provider fails.

    ``model`` is a path or the bytes of a file. Nodes that ``provider`` does not take run on ``fallback_providers``. A
    provider of a plugin needs its ``device``: onnxruntime lists it by name too, but silently ignores a request by name.
    """
    session_class = load_onnxruntime().InferenceSession
    if device is not None:
        session_options.add_provider_for_devices([device], dict(provider_options))
        return session_class(model, session_options, enable_fallback=0)
    providers = [(provider.ep, dict(provider_options)), *((ep, {}) for ep in fallback_providers)]
    return session_class(model, session_options, providers=providers, enable_fallback=0)


def devices(provider: Provider, kind: str = "") -> list[Any]:
    """The devices that ``provider`` has through the plugin interface; empty for a provider that is not a plugin.

    ``kind`` is the kind of hardware: ``cpu``, ``gpu`` or ``npu``; "" for all.
    """
    ort = load_onnxruntime()
    if not hasattr(ort, "get_ep_devices"):
        return []
    ep_devices = [device for device in ort.get_ep_devices() if device.ep_name == provider.ep]
    return [device for device in ep_devices if kind in ("", device.device.type.name.lower())]


def device_facts(provider: Provider, device: Any) -> dict[str, str]:
    """The session facts ``device`` and ``version``: the latter of onnxruntime and of a plugin."""
    version = f"onnxruntime {load_onnxruntime().__version__}"
    if device is None:
        return {"device": provider.ep, "version": version}
    plugin_version = device.ep_metadata.get("version")
    return {
        "device": f"{provider.ep} on {device_name(device)}",
        "version": f"{version}, {provider.short_name} plugin {plugin_version}" if plugin_version else version,
    }


def device_name(device: Any) -> str:
    """The kind and vendor of a plugin's device, such as ``CPU of Intel``."""
    return f"{device.device.type.name} of {device.device.vendor or device.ep_vendor}"
