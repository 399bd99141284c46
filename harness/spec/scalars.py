"""Plain scalars by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).

PyYAML reads YAML 1.1, in which ``1e-5`` is a string, ``no`` is false and ``010`` is eight.
"""

from __future__ import annotations

import re

from harness.spec.node import Scalar

NULL = frozenset({"", "~", "null", "Null", "NULL"})
BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DECIMAL = re.compile(r"[-+]?[0-9]+")
OCTAL = re.compile(r"0o[0-7]+")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
NAN = frozenset({".nan", ".NaN", ".NAN"})
LONGEST_INTEGER = 40


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises ``ValueError`` for an integer of absurd length, and for a decimal beyond float64, which
    would otherwise become an infinity that nobody wrote.
    """
    if text in NULL:
        return None
    if text in BOOL:
        return BOOL[text]
    if text[0] not in "+-.0123456789":
        return text
    return _number(text)


def _number(text: str) -> Scalar:
    for pattern, base in ((DECIMAL, 10), (OCTAL, 8), (HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            if len(text) > LONGEST_INTEGER:
                raise ValueError(f"a whole number of {len(text)} characters; at most {LONGEST_INTEGER}")
            return int(text if base == 10 else text[2:], base)
    if FLOAT.fullmatch(text):
        value = float(text)
        if value in {float("inf"), float("-inf")}:
            raise ValueError(f"{text[:LONGEST_INTEGER]} is beyond float64; write .inf for infinity")
        return value
    if INFINITY.fullmatch(text):
        return float("-inf") if text[0] == "-" else float("inf")
    return float("nan") if text in NAN else text
