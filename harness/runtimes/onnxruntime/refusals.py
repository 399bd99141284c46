"""Tells onnxruntime's own "I do not do this" from every other way to fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import Unsupported

# How onnxruntime begins what it says: "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : ...".
_REFUSES = "NOT_IMPLEMENTED"
_MAY_REFUSE = ("FAIL", "RUNTIME_EXCEPTION", "INVALID_ARGUMENT")
_WORDS = (
    "is not a registered function/op",
    "not supported",
    "Unsupported model IR version",
    "is under development",
)


@contextmanager
def refusals_named() -> Iterator[None]:
    """Turn a refusal of onnxruntime into :class:`Unsupported`, in its own words; all else passes unchanged."""
    try:
        yield
    except Exception as error:
        said = refusal(str(error))
        if said is None:
            raise
        raise Unsupported(said) from error


def refusal(text: str) -> str | None:
    """What onnxruntime says that it does not do, in one line; None where ``text`` tells of another failure."""
    parts = text.split(" : ", 3)
    if len(parts) < 4 or parts[0] != "[ONNXRuntimeError]":
        return None
    _, _, code, said = parts
    if code == _REFUSES or (code in _MAY_REFUSE and any(word in said for word in _WORDS)):
        return " ".join(said.split("\n", 1)[0].split())
    return None
