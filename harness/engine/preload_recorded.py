"""Imported once by the fork server of a run of recorded models alone: as ``preload``, but torch need not be there."""

from __future__ import annotations

from harness.engine import server

server.settle()
from harness.engine import libraries  # noqa: E402 - whatever it loads may chatter

with libraries.kept():
    libraries.for_recorded_models()
