"""The informative part of a library's error message, which is not always its first line.

OpenVINO's begin with a call stack, tract's name the reason under ``Caused by:``.
"""

from __future__ import annotations

import re

_CAUSED_BY, _BACKTRACE = "Caused by:", "Stack backtrace:"
_NUMBER = re.compile(r"[0-9]+: +")
_OPENVINO_STACK = re.compile(r"Exception from \S+:[0-9]+:")
_OPENVINO_FRAMES = (
    "Exception from ",
    "Check '",
    "FrontEnd API failed with",
    "Model wasn't fully converted",
    "Summary:",
)
_UNCONVERTED = "No conversion rule found for operations: "
_CONVERSION_FAILED = "Conversion is failed for: "
_OPENVINO_NODES = (
    re.compile(
        r"While (?:validating|converting) ONNX node '<Node\((?P<operator>[^)]{1,300})\): (?P<name>[^'>]{0,300})>'"
    ),
    re.compile(r"While validating node '(?P<operator>\S{1,300}) (?P<name>[^\s']{1,300})"),
    re.compile(r"\[CPU\] (?P<operator>\S{1,300}) node with name '(?P<name>[^']{1,300})'"),
)


def informative_part(text: str) -> str:
    """The informative part of ``text`` in one line, "" if it has none.

    - An error of tract: its first line and the causes below it, down to the backtrace.
    - An error of OpenVINO: the operators that it cannot convert, or the node and the reason, without the call stack.
    - Any other: the first line. If that ends with a colon, the first later line that does not is added.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    if _CAUSED_BY in lines[1:]:
        return _with_causes(lines)
    if _OPENVINO_STACK.fullmatch(lines[0]):
        return _from_call_stack(lines)
    message = lines[0]
    if message.endswith(":") and len(lines) > 1:
        message += f" {next((line for line in lines[1:] if not line.endswith(':')), lines[1])}"
    return message


def unconverted_operators(text: str) -> str | None:
    """OpenVINO's line about the operators that it has no conversion for; None if ``text`` has no such line."""
    lines = (line.strip().removeprefix("-- ") for line in text.splitlines())
    return next((line for line in lines if line.startswith(_UNCONVERTED)), None)


def _with_causes(lines: list[str]) -> str:
    begin = lines.index(_CAUSED_BY) + 1
    end = lines.index(_BACKTRACE) if _BACKTRACE in lines else len(lines)
    return ": ".join([lines[0].removesuffix(":"), *(_NUMBER.sub("", line, count=1) for line in lines[begin:end])])


def _from_call_stack(lines: list[str]) -> str:
    summary = [line.removeprefix("-- ") for line in lines]
    if unconverted := next((line for line in summary if line.startswith(_UNCONVERTED)), None):
        return unconverted
    matches = (pattern.search(line) for pattern in _OPENVINO_NODES for line in lines)
    nodes = (f"{match['operator']} node {match['name']!r}" for match in matches if match)
    failed = (line.removeprefix(_CONVERSION_FAILED) for line in summary if line.startswith(_CONVERSION_FAILED))
    where = next(nodes, None) or next(failed, None)
    reasons = (
        line
        for line in summary
        if not line.endswith(":") and not line.startswith((*_OPENVINO_FRAMES, _CONVERSION_FAILED, "While "))
    )
    reason = next(reasons, None) or next((line for line in lines if not line.endswith(":")), lines[-1])
    return reason if where is None else f"{where}: {reason}"
