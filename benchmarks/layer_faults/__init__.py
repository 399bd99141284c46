"""Shows that the layer table names the layer that is wrong: planted faults in a net of 49 layers, one at a time.

    python -m benchmarks.layer_faults [--only WORD] [--write]

The net is exported by both ONNX exporters, in float32, as a file without any names, and in float16. In each file each
node that a fault fits gets one: a weight that is 1 % off (in float16 10 %), a bias, an epsilon ten times as large,
another activation, another pooling, a softmax over another axis, a difference for a sum. A fault that changes what its
node computes by less than 16 eps (an axis that is the same axis, a term that is too small to count) is not counted.

Right means: the first layer that is called wrong is the one whose code the exporter wrote the node for, or the layer
that is folded into it, and the sentence says "one step". The files without a fault must have no wrong layer, and the
sentence must say "no step", also where the outputs are held to be equal to the last bit and so fail.

Writes reports/layer-faults.md. Exit code 1 if fewer than 95 of 100 faults are right, or if a right file has a wrong
layer.
"""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path

import torch

from harness.environment import versions

ROOT = Path(__file__).resolve().parent.parent.parent


def chosen_options(about: str | None, items: str, report: str) -> argparse.Namespace:
    """The options ``only`` and ``write`` of the command line. From now on torch has one thread, and nothing warns."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", default="", help=f"only {items} whose name contains this word")
    parser.add_argument("--write", action="store_true", help=f"write {report}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return options


def write_cost(part: str) -> None:
    """Write one part of reports/layer-cost.md, which begins with its title; other parts stay."""
    path, title = ROOT / "reports/layer-cost.md", part.partition("\n")[0]
    parts = re.split(r"^(?=# )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = {each.partition("\n")[0]: each.rstrip() + "\n" for each in parts if each} | {title: part.rstrip() + "\n"}
    path.write_text("\n".join(kept.values()), encoding="utf-8")


def versions_text() -> str:
    """The installed versions of the libraries that are measured."""
    return ", ".join(f"{name} {versions()[name]}" for name in ("torch", "onnx", "onnxruntime"))
