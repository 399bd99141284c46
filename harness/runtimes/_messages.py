"""The informative part of a library's error message, which is not always its first line.

OpenVINO's begin with a call stack, tract's name the reason under ``Caused by:``, TorchScript's end with it, ONNX
Runtime's have a place in its C++ code before it.
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
_INTERPRETER = "The following operation failed in the TorchScript interpreter."
_REASON = re.compile(r"[A-Za-z_.]{1,80}(?:Error|Exception): ")
_TRACE_CHECK = "Tracing failed sanity checks!"
_TRACE_CHECK_MEANS = (
    "a second call of the module does something else than the traced one: it keeps state between calls, or draws "
    "random numbers"
)
_TRACE_SOURCE = "Trace source location:"
_FRAME = re.compile(r"(?:.{0,300}/)?([^/]{1,200}\.py)\(([0-9]{1,9})\): ")
_NOT_INFERRED, _INDEPENDENT = "Tracer cannot infer type of ", "of traced region did not have"
_UNCONVERTED = "No conversion rule found for operations: "
_CONVERSION_FAILED = "Conversion is failed for: "
_OPENVINO_NODES = (
    re.compile(
        r"While (?:validating|converting) ONNX node '<Node\((?P<operator>[^)]{1,300})\): (?P<name>[^'>]{0,300})>'"
    ),
    re.compile(r"While validating node '(?P<operator>\S{1,300}) (?P<name>[^\s']{1,300})"),
    re.compile(r"\[CPU\] (?P<operator>\S{1,300}) node with name '(?P<name>[^']{1,300})'"),
)

_ORT_NODE = re.compile(
    r"(?:\[ONNXRuntimeError\] : \d+ : \w+ : )?Non-zero status code returned while running "
    r"(?P<operator>\S{1,300}) node\. Name:'(?P<name>[^']{0,300})' Status Message: "
)
_ORT_PLACE = re.compile(r"\S{1,300}\.(?:h|hpp|cc|cpp|cu|cuh):\d{1,7} ")
_ORT_CONDITION = re.compile(r"(?P<condition>.{1,1000}?) was false\. ?")
_AFTER_SIGNATURE = re.compile(r"(?: const\b| \[with [^\]]{0,500}\])* ")


def informative_part(text: str) -> str:
    """The informative part of ``text`` in one line, "" if it has none.

    - An error of tract: its first line and the causes below it, down to the backtrace.
    - An error of OpenVINO: the operators that it cannot convert, or the node and the reason, without the call stack.
    - An error of TorchScript's interpreter: the reason, its last line; of torch's tracer: the reason, and for its own
      check of a trace what a failure means.
    - An error of a node of ONNX Runtime: the node and the reason, without the place in ONNX Runtime's code.
    - Any other: the first line. If that ends with a colon, the first later line that does not is added.
    """
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    if _CAUSED_BY in lines[1:]:
        return _with_causes(lines)
    if _OPENVINO_STACK.fullmatch(lines[0]):
        return _from_call_stack(lines)
    if (of_torch := _from_torchscript(lines)) is not None:
        return of_torch
    if node := _ORT_NODE.match(lines[0]):
        at = f"{node['operator']} node" + (f" {node['name']!r}" if node["name"] else "")
        return f"{at}: {_without_cpp_place(lines[0][node.end() :])}"
    message = lines[0]
    if message.endswith(":") and len(lines) > 1:
        message += f" {next((line for line in lines[1:] if not line.endswith(':')), lines[1])}"
    return message


def _from_torchscript(lines: list[str]) -> str | None:
    """The informative part of an error of TorchScript's interpreter or tracer; None for another error."""
    first = lines[0]
    if first == _INTERPRETER:
        reason = next((line for line in reversed(lines) if _REASON.match(line)), None)
        return None if reason is None else f"{first[:-1]}: {reason}"
    if first == _TRACE_CHECK:
        problem = next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")), "")
        sources = lines[lines.index(_TRACE_SOURCE) + 1 :] if _TRACE_SOURCE in lines else []
        frame = next(filter(None, map(_FRAME.match, sources)), None)
        where = "" if frame is None else f" ({frame[1]}:{frame[2]})"
        return f"{first} {problem}{where} This means that {_TRACE_CHECK_MEANS}"
    if first.startswith(_NOT_INFERRED):
        reason = next((line[1:] for line in reversed(lines) if line.startswith(":")), None)
        return None if reason is None else f"Tracer cannot infer the type of what forward returns: {reason}"
    of_region = next((line for line in lines[:20] if _INDEPENDENT in line), None)
    return None if of_region is None or of_region == first else f"{first} {of_region}"


def _without_cpp_place(reason: str) -> str:
    """A reason of ONNX Runtime without the file, line and function of its code, and with the condition at the end."""
    place = _ORT_PLACE.match(reason)
    if place is None:
        return reason
    rest = reason[place.end() :]
    name, _, after_name = rest.partition(" ")
    if (end := _end_of_signature(rest)) is not None and (after := _AFTER_SIGNATURE.match(rest, end)):
        after_name = rest[after.end() :]
    if (failed := _ORT_CONDITION.match(after_name)) is None:
        return after_name or name
    message = after_name[failed.end() :]
    return f"{message} ({failed['condition']} was false)" if message else f"{failed['condition']} was false"


def _end_of_signature(text: str) -> int | None:
    """Where the parameters of the C++ function that ``text`` begins with end; None if it begins with a bare name."""
    opening = text.find("(")
    if "::" not in text[: max(opening, 0)]:
        return None
    depth = 0
    for index, character in enumerate(text[:2000]):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return index + 1
    return None


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
