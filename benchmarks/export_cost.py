"""The time of one tiny export: torch's own dynamo exporter, then with each speed-up added, and the other exporters.

    python benchmarks/export_cost.py [ROUNDS]

Each time is the median over two layers and two opsets (18 and 23), which take turns in one process. Each ratio is
relative to torch's own dynamo exporter.
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

from harness.exporters import _dynamo_cache
from harness.fixes import translation_table
from harness.model.build import Subject
from harness.registry import plugins

LAYERS = (nn.ReLU().eval(), nn.AvgPool2d(2, 2).eval())
OPSETS = (18, 23)
X = torch.randn(2, 3, 7, 7)


def median_ms(export: Callable[[nn.Module, int], object], rounds: int) -> float:
    """The median time of ``export`` over the layers and opsets in milliseconds, after one warm-up round."""
    times = []
    for number in range(rounds + 1):
        for layer in LAYERS:
            for opset in OPSETS:
                start = time.perf_counter()
                export(layer, opset)
                if number:
                    times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def dynamo(
    path: Path, context: Callable[[], AbstractContextManager[None]], *, fixes: bool = False
) -> Callable[[nn.Module, int], object]:
    """``torch.onnx.export(dynamo=True)`` to ``path``, inside ``context()``."""

    def export(layer: nn.Module, opset: int) -> None:
        table = translation_table() if fixes else None
        with context():
            torch.onnx.export(
                layer,
                (X,),
                path,
                dynamo=True,
                opset_version=opset,
                verbose=False,
                custom_translation_table=table,
            )

    return export


def adding_speed_ups(path: Path, rounds: int) -> list[tuple[str, float]]:
    """The times with the first speed-up, with the first two, and so on."""
    speed_ups = _dynamo_cache._SPEED_UPS  # noqa: SLF001
    rows = []
    try:
        for count, speed_up in enumerate(speed_ups, start=1):
            _dynamo_cache.clear()
            _dynamo_cache._SPEED_UPS = speed_ups[:count]  # noqa: SLF001
            rows.append((f"  and {speed_up.name} cached", median_ms(dynamo(path, _dynamo_cache.cached_tables), rounds)))
    finally:
        _dynamo_cache._SPEED_UPS = speed_ups  # noqa: SLF001
    return rows


def through_exporter(name: str, path: Path, *, fixes: bool = False) -> Callable[[nn.Module, int], object]:
    """A registered exporter, including the checker and the digest."""
    exporter = plugins("exporters")[name]

    def export(layer: nn.Module, opset: int) -> None:
        exporter.export(Subject(layer, {"x": X}, 1), path, opset=opset, fixes=fixes)

    return export


def main(rounds: int) -> None:
    """Measure and print the table."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        rows = [("onnx-dynamo without harness", median_ms(dynamo(path, nullcontext), rounds))]
        gc.collect()
        gc.freeze()
        rows.append(("  with the heap frozen once", median_ms(dynamo(path, nullcontext), rounds)))
        rows += adding_speed_ups(path, rounds)
        rows.append(("  with the fixes", median_ms(dynamo(path, _dynamo_cache.cached_tables, fixes=True), rounds)))
        for name in ("onnx-dynamo", "onnx-torchscript", "script", "trace"):
            rows.append((f"{name}, with checker and digest", median_ms(through_exporter(name, path), rounds)))
    baseline = rows[0][1]
    table = [(name, time_ms, baseline / time_ms) for name, time_ms in rows]
    print(f"torch {torch.__version__}, {rounds} rounds of {len(LAYERS)} layers at opsets {OPSETS}\n")
    print(tabulate(table, headers=["export", "median ms", "times faster"], floatfmt=("", ".1f", ".1f")))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
