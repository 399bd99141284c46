"""A machine without torch, for tests: a folder in which no Python process can import it, and every try is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            with open({tried!r}, "a") as log:
                log.write(name + "\\n")
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Blocker())
"""
ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = ("torch", "torchvision", "onnxscript", "onnx_ir")


def without_torch(folder: Path) -> Path:
    """``folder`` with a ``sitecustomize`` that keeps torch out of all that starts there, workers included."""
    (folder / "site").mkdir(parents=True)
    text = BLOCKER.format(forbidden=FORBIDDEN, tried=str(folder / "tried"))
    (folder / "site" / "sitecustomize.py").write_text(text, encoding="utf-8")
    return folder


def python(board: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with ``arguments``, started on the board."""
    path = os.pathsep.join([str(board / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "HARNESS_CACHE": str(board / "cache"), "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=board, env=environment, capture_output=True, text=True, check=False
    )
