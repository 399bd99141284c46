"""The installed onnxruntime: what it was built with, which plugins it has taken in, and which devices they have."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from harness.environment import onnxruntime_builds
from harness.runtimes import Availability
from harness.runtimes.onnxruntime.providers import CPU, Provider


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
    registered, trouble = _register(provider)
    if trouble:
        return Availability(trouble, provider.bring, build)
    if provider.ep in ort.get_available_providers():
        return _probed(provider, build)
    found = devices(provider)
    if found:
        names = ", ".join(
            f"{device.device.type.name} of {device.device.vendor or device.ep_vendor}" for device in found
        )
        return Availability(detail=f"{build}, {', '.join(registered) or 'built in'}: {names}")
    if registered:
        return Availability(f"{', '.join(registered)} finds no device here", provider.bring, build, lacks_device=True)
    return Availability(f"{build} is built without {provider.ep}", provider.bring, build)


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


def devices(provider: Provider) -> list[Any]:
    """The devices that ``provider`` has through the plugin interface: none where it is built in the older way."""
    ort = runtime()
    if not hasattr(ort, "get_ep_devices"):
        return []
    return [device for device in ort.get_ep_devices() if device.ep_name == provider.ep]


@cache
def _register(provider: Provider) -> tuple[tuple[str, ...], str]:
    """The plugin modules that onnxruntime has taken in for ``provider``, and what went wrong with one of them.

    A library is registered once in a process and stays.
    """
    taken: list[str] = []
    for name in provider.plugins:
        if find_spec(name) is None:
            continue
        try:
            runtime().register_execution_provider_library(name, import_module(name).get_library_path())
        except Exception as error:  # noqa: BLE001 - plugins and onnxruntime raise bare Exceptions; it is told
            return tuple(taken), f"{name} does not load: {str(error).splitlines()[0]}"
        taken.append(name)
    return tuple(taken), ""


@cache
def _probed(provider: Provider, build: str) -> Availability:
    """Whether a session on a one-node model comes up with ``provider``."""
    from onnx import TensorProto, helper

    ort = runtime()
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=[provider.ep], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base; it is told
        said = f"{provider.ep} does not start: {str(error).splitlines()[0]}"
        return Availability(said, provider.bring, build, lacks_device=True)
    if provider.ep not in session.get_providers():
        said = f"{build} offers {provider.ep}, and it finds no device or library on this {sys.platform} machine"
        return Availability(said, provider.bring, build, lacks_device=True)
    return Availability(detail=f"{build}, {provider.ep}")
