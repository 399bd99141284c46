"""The targets that tell most about a failure on another: one thing is different in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.blame.witnesses import OPSETS
from harness.registry import plugins
from harness.spec.target import FILE, Target


def neighbours(target: Target) -> tuple[Target, ...]:
    """The other exporters, the other opsets, the corrected lowerings, and the other runtimes that are here."""
    return tuple({str(other): other for other in _all(target) if str(other) != str(target)}.values())


def _all(target: Target) -> Iterator[Target]:
    if target.exporter != FILE:
        yield from _exported(target)
    for name, runtime in plugins("runtimes").items():
        if name != target.runtime and runtime.takes == _format(target) and runtime.availability().present:
            yield replace(target, runtime=name, options={})


def _exported(target: Target) -> Iterator[Target]:
    for name, exporter in plugins("exporters").items():
        if exporter.makes != _format(target):
            continue
        opsets: tuple[int | None, ...] = OPSETS.get(name, (None,))
        yield from (replace(target, exporter=name, opset=opset, fixes=False) for opset in opsets)
    yield replace(target, fixes=not target.fixes)


def _format(target: Target) -> str:
    return "onnx" if target.exporter == FILE else str(plugins("exporters")[target.exporter].makes)
