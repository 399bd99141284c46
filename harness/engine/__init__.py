"""Where checks run: contained workers, and the artifact cache. On Linux alone: the limits are its own."""

from __future__ import annotations

import sys

from harness.errors import RuntimeMissing

if sys.platform != "linux":
    # Said here, before a module below is read that needs what other systems have not.
    raise RuntimeMissing(f"this is {sys.platform}, where a check cannot be contained; run harness on Linux")
