"""ONNX Runtime: one runtime per execution provider, ``ort-cpu``, ``ort-cuda`` and so on."""

from __future__ import annotations

from harness.runtimes.onnxruntime.library import PROVIDERS
from harness.runtimes.onnxruntime.runtime import OnnxRuntime

PROVIDES = tuple(OnnxRuntime(provider) for provider in PROVIDERS)
