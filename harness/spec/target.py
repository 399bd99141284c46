"""A target: an exporter, its opset, and a runtime with its options.

Written ``EXPORTER[@OPSET][+fixes]/RUNTIME[?option=value&...]``, or ``file/RUNTIME[?...]`` for a recorded model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FILE = "file"
"""The first word of a target for a model that exists already as a file: nobody exports it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a case is taken: who exports it, and what runs the result."""

    exporter: str
    runtime: str
    opset: int | None = None
    fixes: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.export}/{self.runtime}" + (f"?{options}" if options else "")

    @property
    def export(self) -> str:
        """The half before the slash: targets that share it share an artifact."""
        return self.exporter + ("" if self.opset is None else f"@{self.opset}") + ("+fixes" if self.fixes else "")
