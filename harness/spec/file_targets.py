"""The targets that a recorded model can be taken to: its file on any runtime that runs ONNX."""

from __future__ import annotations

from harness.registry import plugins
from harness.spec.glob import matches
from harness.spec.target import FILE, Target

ORDINARY = Target(FILE, "ort-cpu")
"""Where a recorded model is taken when nothing is asked for."""


def every_file_target() -> tuple[Target, ...]:
    """A recorded model's file on each runtime that runs ONNX, whether it is on this machine or not."""
    return tuple(Target(FILE, name) for name, runtime in plugins("runtimes").items() if runtime.takes == "onnx")


def file_targets(word: str) -> tuple[Target, ...]:
    """What ``word`` means for a recorded model: the name of a runtime, or a glob over runtimes or whole targets.

    Of several that a glob matches, those count that are on this machine, where any is: whoever writes ``ort-*`` means
    whichever there is. Nothing where the word means nothing here.
    """
    every = every_file_target()
    if "*" not in word:
        return tuple(target for target in every if target.runtime == word)
    found = [target for target in every if matches(word, str(target) if "/" in word else target.runtime)]
    present = [target for target in found if plugins("runtimes")[target.runtime].availability().present]
    return tuple(present or found)
