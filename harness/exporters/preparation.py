"""What a process that will fork workers does once, so that each of them exports quickly from the first time on."""

from __future__ import annotations

from harness.exporters._dynamo_speed import prepare

__all__ = ["PREPARED", "prepare"]

PREPARED = frozenset({"onnx-dynamo", "onnx-torchscript"})
"""The exporters that it makes quicker: both load much of torch when they are first used."""
