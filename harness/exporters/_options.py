"""The options of an exporter in a target: arguments of the library's own function, written ``name=value``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import UsageError

_SWITCH = {"on": True, "true": True, "off": False, "false": False}


class ExportOptions:
    """A base of exporters with options; ``switches`` are the arguments that are on or off, with their meaning."""

    switches: Mapping[str, str] = {}

    @property
    def options(self) -> Mapping[str, str]:
        """The options that a target may set, each with one line on its meaning and its values."""
        return {name: f"{meaning}: on or off" for name, meaning in self.switches.items()}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`UsageError` for a value that is not accepted."""
        self.arguments(options)

    def arguments(self, options: Mapping[str, str]) -> dict[str, Any]:
        """The arguments of the library's function. Raises :class:`UsageError` for a value that is not accepted."""
        arguments: dict[str, Any] = {}
        for name, value in options.items():
            if value.lower() not in _SWITCH:
                raise UsageError(f"{name}={value} is unknown; write on or off")
            arguments[name] = _SWITCH[value.lower()]
        return arguments
