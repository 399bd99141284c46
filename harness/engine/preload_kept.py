"""Imported once by the fork server of a run whose exports are kept already: as ``preload``, but not ready to export."""

from __future__ import annotations

from harness.engine import server

server.settle()
from harness.engine import libraries  # noqa: E402 - whatever it loads may chatter

with libraries.kept():
    libraries.for_specs()
