"""What the series of a measurement are called."""

from __future__ import annotations

from harness.spec.target import Target

TRANSFER = "transfer"
"""The inputs to the device and the outputs back, without computing."""


def series(target: Target | str, variant: str = "") -> str:
    """The name of a target's own call, or of a variant of it: ``iobinding=off``, :data:`TRANSFER`."""
    return f"{target} {variant}".strip()
