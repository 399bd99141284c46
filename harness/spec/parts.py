"""The small types of the spec language, each with its check and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, PlainValidator, WithJsonSchema

from harness.spec.case import CaseTolerance, Fill
from harness.spec.compact import shown
from harness.spec.fills import FILL_SCHEMA, PAIR_SCHEMA, fill, pair
from harness.spec.strict import objection
from harness.spec.tolerances import TOLERANCE_SCHEMA, tolerance

CASE_NAME = re.compile(r"[A-Za-z0-9._-]+")
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


LONGEST_NAME = 200
"""Of a case, a label or a factory: it stands in every id and in every line of a report."""
ONLY = ""
"""The label of what is given without one."""


def _form(pattern: re.Pattern[str], noun: str, right: str) -> BeforeValidator:
    """A check of text's form, with an objection that says which form."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise objection(f"{shown(value)} is not {noun}", right)
        if isinstance(value, str) and len(value) > LONGEST_NAME:
            raise objection(f"a name of {len(value)} characters", f"at most {LONGEST_NAME}")
        return value

    return BeforeValidator(check)


def either(one: Callable[[Any], bool], many: Callable[[Any], Any]) -> BeforeValidator:
    """Where a single one may stand for several: brought into the form of several."""
    return BeforeValidator(lambda value: many(value) if one(value) else value)


def _text(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$", "maxLength": LONGEST_NAME})


def _is_one_shape(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(each, list) for each in value)


LABEL_SCHEMA: dict[str, JsonValue] = {"type": "string", "pattern": f"^{LABEL.pattern}$", "maxLength": LONGEST_NAME}
_SHAPE_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 16}

DType = Literal["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
FloatingDType = Literal["float32", "float64", "float16", "bfloat16"]

CaseName = Annotated[str, _form(CASE_NAME, "a name", "letters, digits, `.`, `_` and `-` only"), _text(CASE_NAME)]
Label = Annotated[str, _form(LABEL, "a label", "a letter or `_`, then letters, digits and `_`"), _text(LABEL)]
FactoryName = Annotated[str, _form(FACTORY, "a factory", "write package.module:callable"), _text(FACTORY)]
Labels = Annotated[
    list[Label],
    Field(min_length=1),
    either(lambda value: isinstance(value, str), lambda word: [word]),
    WithJsonSchema({"anyOf": [LABEL_SCHEMA, {"type": "array", "items": LABEL_SCHEMA, "minItems": 1}]}),
]

Shape = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=16)]
Shapes = Annotated[
    list[Shape],
    either(_is_one_shape, lambda shape: [shape]),
    WithJsonSchema({"anyOf": [_SHAPE_SCHEMA, {"type": "array", "items": _SHAPE_SCHEMA}]}),
]
ShapesByLabel = Annotated[
    dict[str, Shape],
    Field(min_length=1),
    either(lambda value: isinstance(value, list), lambda shape: {ONLY: shape}),
    WithJsonSchema({"anyOf": [_SHAPE_SCHEMA, {"type": "object", "additionalProperties": _SHAPE_SCHEMA}]}),
]

Filling = Annotated[Fill, PlainValidator(fill), WithJsonSchema(FILL_SCHEMA)]
Range = Annotated[tuple[float, float], PlainValidator(pair), WithJsonSchema(PAIR_SCHEMA)]
Rules = Annotated[CaseTolerance, PlainValidator(tolerance), WithJsonSchema(TOLERANCE_SCHEMA)]
Values = Annotated[Any, WithJsonSchema({"type": ["number", "boolean", "array"]})]
