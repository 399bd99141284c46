"""The names in a spec: of cases, of inputs and outputs, of factories."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, JsonValue, WithJsonSchema

from harness.spec.quoting import format_value
from harness.spec.yaml.strict import invalid_value

CASE_NAME = re.compile(r"[A-Za-z0-9._-]+")
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TENSOR_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
"""The label of an input, also of a tensor in a nested one: ``boxes.0``."""
OUTPUT_PATH = re.compile(r"[^\s:{}\[\],]+")
"""The name of an output: a path in what a module returns, such as ``past.0.key``, or what a file calls it."""
FACTORY = re.compile(r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[^:]+\.py):[A-Za-z_]\w*")
MAX_NAME_LENGTH = 200
"""For a case, a label or a factory: the name is part of every id and of every line of a report."""


def as_label(name: str) -> str:
    """The name of a file's input as a label of a spec: ``input.1`` as ``input_1``."""
    label = re.sub(r"\W", "_", name, flags=re.ASCII)
    return label if re.match(r"[A-Za-z_]", label) else f"_{label}"


def matches_pattern(pattern: re.Pattern[str], noun: str, remedy: str) -> BeforeValidator:
    """A check that text matches ``pattern``; the error says what to write."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise invalid_value(f"{format_value(value)} is not {noun}", remedy)
        if isinstance(value, str) and len(value) > MAX_NAME_LENGTH:
            raise invalid_value(f"a name of {len(value)} characters", f"at most {MAX_NAME_LENGTH}")
        return value

    return BeforeValidator(check)


def text_schema(pattern: re.Pattern[str]) -> dict[str, JsonValue]:
    """The JSON Schema of text that matches ``pattern``."""
    return {"type": "string", "pattern": f"^{pattern.pattern}$", "maxLength": MAX_NAME_LENGTH}


CaseName = Annotated[
    str,
    matches_pattern(CASE_NAME, "a name", "use letters, digits, `.`, `_` and `-` only"),
    WithJsonSchema(text_schema(CASE_NAME)),
]
Label = Annotated[
    str,
    matches_pattern(LABEL, "a label", "write a letter or `_`, then letters, digits and `_`"),
    WithJsonSchema(text_schema(LABEL)),
]
TensorLabel = Annotated[
    str, matches_pattern(TENSOR_LABEL, "a label", "write a letter or `_`, then letters, digits and `_`")
]
OutputPath = Annotated[
    str, matches_pattern(OUTPUT_PATH, "an output", "write its path, such as `present.0.key`, or `output_0`")
]
