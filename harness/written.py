"""What a worker writes down for harness itself to read: plain data as one line of JSON, as quickly as can be."""

from __future__ import annotations

import json
from contextlib import suppress

from pydantic_core import to_json as quick

from harness.result import to_json

_NOT_FINITE = (b"NaN", b"Infinity")


def one_line(value: object) -> bytes:
    """:func:`harness.result.to_json` of ``value``, written out.

    pydantic writes the same in a sixth of the time, but for numbers that are not finite and text that UTF-8 lacks.
    """
    with suppress(ValueError):
        text = quick(value, inf_nan_mode="constants")
        if not any(word in text for word in _NOT_FINITE):
            return text
    return json.dumps(to_json(value), separators=(",", ":")).encode()
