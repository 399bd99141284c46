"""Imported once by the fork server of a run of recorded models alone: as ``preload``, but torch need not be there."""

from __future__ import annotations

from harness.engine import libraries, silence

silence.fall()
libraries.for_recorded_models()
libraries.keep()
