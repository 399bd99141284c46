"""The options in a target: those of its runtime, and its exporter's own arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from harness.errors import UsageError
from harness.spec.quoting import join_names, suggestion


def written_options(options: Mapping[str, str]) -> str:
    """The options as a target has them: ``?option=value&...``; empty if there are none."""
    return "?" + "&".join(f"{key}={value}" for key, value in options.items()) if options else ""


class LibraryPath(str):  # noqa: SLOT000 - it has one
    """The path of a library as a target has it, with the absolute ``path`` of the file."""

    path: str


@runtime_checkable
class ChecksOptions(Protocol):
    """A runtime that can check the options of a target before anything is loaded."""

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`UsageError` for a key or a value that the runtime does not accept."""
        ...


def runtime_options(text: str, name: str, runtime: Any, written: str | None) -> dict[str, str]:
    """The options of a target; their values are checked as far as the runtime can before anything is loaded."""
    options = _options(text, name, runtime.options, written)
    if isinstance(runtime, ChecksOptions):
        try:
            runtime.check(options)
        except UsageError as error:
            raise UsageError(f"{text}: {error}") from None
    return options


def _options(text: str, runtime: str, supported: Mapping[str, str], written: str | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in written.split("&") if written is not None else ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{text}: {pair!r} is not an option; write ?option=value&...")
        if key not in supported:
            remedy = suggestion(key, supported, f"it has {join_names(supported)}" if supported else "it has none")
            raise UsageError(f"{text}: {runtime} has no option {key}; {remedy}")
        if key in options:
            raise UsageError(f"{text}: {key} is set twice; set it once")
        options[key] = value
    return options


def export_options(text: str, name: str, exporter: Any, written: str | None) -> dict[str, str]:
    """The options of an exporter: its own arguments, each with the values that it takes.

    ``exporter`` is None for a file, which is not exported. Raises :class:`UsageError`, as the other functions here do.
    """
    allowed: Mapping[str, Sequence[str]] = getattr(exporter, "options", {})  # a plugin need not have any
    options = _options(text, name, dict.fromkeys(allowed, ""), written)
    for key, value in options.items():
        if value not in allowed[key]:
            values = ", ".join(allowed[key])
            raise UsageError(f"{text}: {key}={value}: {name} takes no such value; write one of {values}")
    return options
