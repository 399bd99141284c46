"""Imported once by the fork server of a run that exports: every worker starts with the libraries loaded and warm."""

from __future__ import annotations

from harness.engine import server

server.settle()
from harness.engine import libraries  # noqa: E402 - whatever it loads may chatter

with libraries.kept():
    libraries.for_exports()
