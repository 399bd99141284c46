"""Where checks run: worker processes with limits, and the journal of results. On Linux only, whose limits it uses."""

from __future__ import annotations

import sys

from harness.errors import RuntimeMissing

if sys.platform != "linux":
    # Raised here, before a module below imports what other systems do not have.
    raise RuntimeMissing(f"this is {sys.platform}, where a check cannot be contained; run harness on Linux")
