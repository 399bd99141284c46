"""The names in a spec: what may name a case, an input or a factory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue, WithJsonSchema

from harness.spec.quoting import format_value
from harness.spec.yaml.strict import invalid_value

CASE_NAME = re.compile(r"[A-Za-z0-9._-]+")
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TENSOR_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")  # also in a nested input: boxes.0
FACTORY = re.compile(r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[^:]+\.py):[A-Za-z_]\w*")
MAX_NAME_LENGTH = 200
"""For a case, a label or a factory: the name is part of every id and of every line of a report."""
UNLABELED = ""
"""The label of a shape or gradient that is written without one."""


def matches(pattern: re.Pattern[str], noun: str, remedy: str) -> BeforeValidator:
    """A check that text matches ``pattern``; the error says what to write."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise invalid_value(f"{format_value(value)} is not {noun}", remedy)
        if isinstance(value, str) and len(value) > MAX_NAME_LENGTH:
            raise invalid_value(f"a name of {len(value)} characters", f"at most {MAX_NAME_LENGTH}")
        return value

    return BeforeValidator(check)


def one_or_many(is_one: Callable[[Any], bool], wrap: Callable[[Any], Any]) -> BeforeValidator:
    """Accept a single value where several are expected: ``wrap`` gives it the form of several."""
    return BeforeValidator(lambda value: wrap(value) if is_one(value) else value)


def text_schema(pattern: re.Pattern[str]) -> dict[str, JsonValue]:
    """The JSON Schema of text that matches ``pattern``."""
    return {"type": "string", "pattern": f"^{pattern.pattern}$", "maxLength": MAX_NAME_LENGTH}


LABEL_SCHEMA = text_schema(LABEL)

CaseName = Annotated[
    str,
    matches(CASE_NAME, "a name", "use letters, digits, `.`, `_` and `-` only"),
    WithJsonSchema(text_schema(CASE_NAME)),
]
Label = Annotated[
    str,
    matches(LABEL, "a label", "write a letter or `_`, then letters, digits and `_`"),
    WithJsonSchema(LABEL_SCHEMA),
]
TensorLabel = Annotated[str, matches(TENSOR_LABEL, "a label", "write a letter or `_`, then letters, digits and `_`")]
FactoryName = Annotated[
    str,
    matches(FACTORY, "a factory", "write package.module:callable, or path/to/file.py:callable"),
    WithJsonSchema(text_schema(FACTORY)),
]
Labels = Annotated[
    list[Label],
    Field(min_length=1),
    one_or_many(lambda value: isinstance(value, str), lambda word: [word]),
    WithJsonSchema({"anyOf": [LABEL_SCHEMA, {"type": "array", "items": LABEL_SCHEMA, "minItems": 1}]}),
]
