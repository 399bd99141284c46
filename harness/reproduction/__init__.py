"""One self-contained script for a check that fails: torch, onnx, onnxruntime and numpy, and nothing of harness.

It exports the model, asks eager torch and the target, prints the versions and both answers, and exits with 1 while
they disagree or a stage fails. It reads as the beginning of an upstream issue.
"""

from __future__ import annotations

from harness.reproduction.obstacle import obstacle
from harness.reproduction.script import reproduction

__all__ = ["obstacle", "reproduction"]
