"""Opsets that a target names and the installed libraries do not have: the request is wrong, whatever the model is."""

from __future__ import annotations

from collections.abc import Iterable

from harness.environment import versions
from harness.errors import UsageError
from harness.registry import plugins
from harness.spec.target import FILE, Target


def check_opsets(targets: Iterable[Target]) -> None:
    """Raises :class:`UsageError` for the first of ``targets`` at an opset that its exporter does not take here.

    Asks the exporters, which load torch.
    """
    for target in targets:
        if target.opset is None or target.exporter == FILE:
            continue
        opsets: range = plugins("exporters")[target.exporter].opsets()
        if target.opset not in opsets:
            lowest, highest = opsets.start, opsets.stop - 1
            nearest = lowest if target.opset < lowest else highest
            here = " and ".join(f"{name} {versions()[name]}" for name in ("torch", "onnx") if name in versions())
            wrong = f"{target}: {target.exporter} takes opsets {lowest} to {highest} here ({here}), not {target.opset}"
            raise UsageError(f"{wrong}; write {target.exporter}@{nearest}")
