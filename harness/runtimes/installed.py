"""Which distributions are installed, asked without importing them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

# onnxruntime is published under one name for each build; all of them hold the module ``onnxruntime``.
ONNXRUNTIME = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-cann",
    "onnxruntime-webgpu",
    "onnxruntime-windowsml",
)


@cache
def installed(distribution: str) -> str | None:
    """The version of ``distribution``; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def onnxruntime_builds() -> tuple[str, ...]:
    """Under which names onnxruntime is installed: one at most in a sound environment."""
    return tuple(name for name in ONNXRUNTIME if installed(name) is not None)
