"""What a process that will fork workers does once, so that each of them exports quickly from the first time on."""

from __future__ import annotations

from harness.exporters import _dynamo_sharing, _dynamo_speed
from harness.exporters._dynamo_speed import prepare

__all__ = ["PREPARED", "prepare", "speed_ups"]

PREPARED = frozenset({"onnx-dynamo", "onnx-torchscript"})
"""The exporters that it makes quicker: both load much of torch when they are first used."""


def speed_ups() -> dict[str, str | None]:
    """Why each speed-up of the dynamo exporter is off with the installed torch, by its name; None where it is on.

    Loads torch and tries them on a tiny export. Raises what that raises without them as well.
    """
    _dynamo_speed.try_out()
    return {**_dynamo_speed.why_off(), **_dynamo_sharing.why_off()}
