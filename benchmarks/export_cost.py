"""What one tiny export costs: the dynamo exporter as it comes, lever by lever, and beside it the others.

    python benchmarks/export_cost.py [ROUNDS]

Every figure is the median over two layers and two opsets (18 and 23), taken in turn in one
process; the ratio is to the dynamo exporter as it comes.
"""

from __future__ import annotations

import gc
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from harness.exporters import _dynamo_cache as speed
from harness.fixes import translation_table
from harness.model.build import Subject
from harness.registry import plugins

LAYERS = (nn.ReLU().eval(), nn.AvgPool2d(2, 2).eval())
OPSETS = (18, 23)
X = torch.randn(2, 3, 7, 7)


def median_ms(work: Callable[[nn.Module, int], object], rounds: int) -> float:
    """The median time of ``work`` over the layers and opsets, in milliseconds, after one round that is not counted."""
    times = []
    for number in range(rounds + 1):
        for layer in LAYERS:
            for opset in OPSETS:
                start = time.perf_counter()
                work(layer, opset)
                if number:
                    times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def dynamo(
    path: Path, around: Callable[[], AbstractContextManager[None]], *, fixes: bool = False
) -> Callable[[nn.Module, int], object]:
    """``torch.onnx.export(dynamo=True)`` to ``path``, inside ``around()``."""

    def work(layer: nn.Module, opset: int) -> None:
        table = translation_table() if fixes else None
        with around():
            torch.onnx.export(
                layer,
                (X,),
                path,
                dynamo=True,
                opset_version=opset,
                verbose=False,
                custom_translation_table=table,
            )

    return work


def lever_by_lever(path: Path, rounds: int) -> list[tuple[str, float]]:
    """The cost with the first lever, with the first two, and so on."""
    every = speed._LEVERS  # noqa: SLF001
    rows = []
    try:
        for count, lever in enumerate(every, start=1):
            speed.forget()
            speed._LEVERS = every[:count]  # noqa: SLF001
            rows.append((f"  and {lever.name} kept", median_ms(dynamo(path, speed.quick), rounds)))
    finally:
        speed._LEVERS = every  # noqa: SLF001
    return rows


def through_exporter(name: str, path: Path, *, fixes: bool = False) -> Callable[[nn.Module, int], object]:
    """A registered exporter, checker and digest included."""
    exporter = plugins("exporters")[name]

    def work(layer: nn.Module, opset: int) -> None:
        exporter.export(Subject(layer, {"x": X}, 1), path, opset=opset, fixes=fixes)

    return work


def main(rounds: int) -> None:
    """Measure and print."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        rows = [("onnx-dynamo as it comes", median_ms(dynamo(path, nullcontext), rounds))]
        gc.collect()
        gc.freeze()
        rows.append(("  with the heap frozen once", median_ms(dynamo(path, nullcontext), rounds)))
        rows += lever_by_lever(path, rounds)
        rows.append(("  with the fixes", median_ms(dynamo(path, speed.quick, fixes=True), rounds)))
        for name in ("onnx-dynamo", "onnx-torchscript", "script", "trace"):
            rows.append((f"{name}, checked and sealed", median_ms(through_exporter(name, path), rounds)))
    stock = rows[0][1]
    table = [(name, cost, stock / cost) for name, cost in rows]
    print(f"torch {torch.__version__}, {rounds} rounds of {len(LAYERS)} layers at opsets {OPSETS}\n")
    print(tabulate(table, headers=["export", "median ms", "times quicker"], floatfmt=("", ".1f", ".1f")))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
