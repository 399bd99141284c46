"""How much memory a piece of work needs at its peak."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size to the current one


class PeakMemory:
    """The growth of this process's resident memory, from now to its peak. Linux only."""

    def __init__(self) -> None:
        try:
            _RESET.write_text(_RESET_PEAK)
            self._before_kb = _kilobytes("VmRSS")
        except OSError:  # another system, or a container that does not allow it
            self._before_kb = None

    def growth_mb(self) -> float | None:
        """Megabytes (2**20 bytes) at the peak since the beginning; None where the system does not tell."""
        peak = None if self._before_kb is None else _kilobytes("VmHWM")
        return None if peak is None or self._before_kb is None else max(0.0, (peak - self._before_kb) / 1024)


def _kilobytes(field: str) -> int | None:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return None if found is None else int(found[1])
