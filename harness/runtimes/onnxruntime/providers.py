"""The execution providers that a target can name, and what brings each of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

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
