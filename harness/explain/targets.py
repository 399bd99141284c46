"""Other targets for a check, and the format of a target's file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.blame.other_targets import EVIDENCE_OPSETS
from harness.registry import plugins
from harness.spec.language.case import Case
from harness.spec.targets import FILE, Target, runs_format


def other_targets(target: Target, format_: str | None = None) -> tuple[Target, ...]:
    """Targets that differ from ``target`` in one thing, so that their results narrow down its failure.

    They are the other exporters and opsets, the corrected lowerings, and the other runtimes that are available and run
    ``format_``, the format of the target's file, which only the case of a file under test knows.
    """
    format_ = format_ or _made_format(target)
    return tuple({str(other): other for other in _candidates(target, format_) if str(other) != str(target)}.values())


def _candidates(target: Target, format_: str) -> Iterator[Target]:
    if target.exports:
        yield from _other_exports(target, format_)
    for name, runtime in plugins("runtimes").items():
        if name != target.runtime and runs_format(runtime, format_) and runtime.availability().present:
            yield replace(target, runtime=name, options={})


def _other_exports(target: Target, format_: str) -> Iterator[Target]:
    for name, exporter in plugins("exporters").items():
        if exporter.makes != format_:
            continue
        opsets: tuple[int | None, ...] = EVIDENCE_OPSETS.get(name, (None,))
        yield from (replace(target, exporter=name, opset=opset, fixes=False) for opset in opsets)
    yield replace(target, fixes=not target.fixes)


def format_of(case: Case, target: Target) -> str:
    """The format of the target's file."""
    if target.tested_file is not None:
        return case.files[target.tested_file].format
    return _made_format(target)


def _made_format(target: Target) -> str:
    return "onnx" if target.exporter == FILE else str(plugins("exporters")[target.exporter].makes)
