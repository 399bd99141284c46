"""The small types of the spec language, each with its check and its JSON Schema.

The whole spec language, as pydantic models and as JSON Schema for editors.

A case is checked twice by the same models: as it is written, and once more resolved, with the
defaults under it and a point of its matrix over it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, PlainValidator, WithJsonSchema

from harness.spec.language.case import Fill, Layout, Mode
from harness.spec.language.fills import FILL_SCHEMA, PAIR_SCHEMA, fill, pair
from harness.spec.language.tolerances import TOLERANCE_SCHEMA, CaseTolerance, tolerance
from harness.spec.quoting import shown
from harness.spec.yaml.strict import Strict, objection

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


FORMAT = 1
SCHEMA_FILE = "harness.schema.json"
"""What the schema is called beside specs, which name it in their first line."""

Arguments = Annotated[dict[str, Any], Field(description="Constructor arguments by name.")]
Forward = Annotated[dict[str, Any], Field(description="Constant keyword arguments of forward.")]
Expression = Annotated[str, Field(min_length=1)]
Gradients = Annotated[
    dict[str, Expression],
    Field(min_length=1),
    either(lambda value: isinstance(value, str), lambda text: {ONLY: text}),
    WithJsonSchema({"type": ["string", "object"], "additionalProperties": {"type": "string"}}),
]


class Tensor(Strict):
    """A tensor: literal `values`, or a `shape` with a `fill`."""

    values: Values = Field(default=None, description="Nested lists; `.nan`, `.inf`, `-.inf` and `-0.0` count.")
    shape: Shape | None = Field(default=None, description="The sizes, where no `values` are given.")
    fill: Filling | None = Field(
        default=None, description="What a `shape` is filled with: `normal`, unless it is said."
    )
    dtype: DType | None = Field(default=None, description="The case's own where it is not said.")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="From the case's id where it is not said.")


class Input(Tensor):
    """An input, bound to `forward` by order; its name is a label."""

    layout: Layout = Field(default="contiguous", description="How the elements lie in memory.")


class Step(Strict):
    """One layer of a sequential model."""

    layer: str = Field(examples=["ReLU"], description="A torch.nn class.")
    args: Arguments = Field(default_factory=dict)
    forward: Forward = Field(default_factory=dict)


class WiredStep(Step):
    """One layer of a graph, with the names of what it reads and writes."""

    in_: Labels = Field(alias="in", examples=["x"], description="The values that it reads, by order of `forward`.")
    out: Labels = Field(examples=["y"], description="Names for the values that it answers with.")


class ModelKeys(Strict):
    """What names a model: exactly one of `layer`, `sequential`, `graph` with `returns`, `factory`."""

    layer: str | None = Field(default=None, description="A torch.nn class.")
    sequential: list[Step] | None = Field(default=None, min_length=1, description="Layers, each feeding the next.")
    graph: list[WiredStep] | None = Field(default=None, min_length=1, description="Layers, wired by names.")
    returns: Labels | None = Field(default=None, description="The values that a graph returns.")
    factory: FactoryName | None = Field(default=None, description="package.module:callable; only with --allow-import.")


class ModelArguments(Strict):
    """What belongs to a model wherever it is named."""

    args: Arguments = Field(default_factory=dict)
    forward: Forward = Field(default_factory=dict)
    weights: dict[str, Tensor] = Field(
        default_factory=dict, description="By parameter name; not named = seeded initialisation."
    )


class OtherModel(ModelKeys, ModelArguments):
    """Another model under the same inputs."""


class Expect(Strict):
    """What must hold, beyond agreement with eager torch."""

    outputs: list[Tensor] | None = Field(
        default=None, min_length=1, description="What the outputs must equal within tolerance."
    )
    shape: Shapes | None = Field(default=None, description="The first output's shape, or a list of them.")
    range: Range | None = Field(default=None, description="Every element of the first output is inside.")
    formula: Expression | None = Field(
        default=None, description="What the first output must equal, or a condition that must be true everywhere."
    )
    gradient: Gradients | None = Field(
        default=None, description="The gradient of the sum of the first output, where a target can be differentiated."
    )
    gradient_range: Range | None = Field(default=None, description="Every element of that gradient is inside.")
    equals: OtherModel | None = Field(default=None, description="Another model that must answer the same.")
    differs_from: OtherModel | None = Field(default=None, description="Another model that must not answer the same.")
    raises: str | None = Field(default=None, min_length=1, description="Text in eager torch's error.")


class Defaults(ModelArguments):
    """What is merged under every case of the file."""

    elsewhere = dict.fromkeys(ModelKeys.model_fields, "a model stands beside `defaults:`, or in a case")

    inputs: dict[Label, Input] = Field(
        default_factory=dict,
        json_schema_extra={"propertyNames": LABEL_SCHEMA},
        description="The tensors for `forward`, by order; their names are labels.",
    )
    mode: Mode = Field(default="eval", description="In which the module is exported and run.")
    dtype: FloatingDType = Field(default="float32", description="Of the parameters, and of inputs that say no other.")
    expect: Expect = Field(default=Expect(), description="What must hold, beyond agreement with eager torch.")
    tolerance: Rules | None = Field(
        default=None, description="How far an output may be off; the layer's own where it is not said."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="From the case's id where it is not said.")
    dynamic: dict[str, dict[Annotated[int, Field(ge=0)], Label]] = Field(
        default_factory=dict, description="Axes that are exported open, by input and axis, each with a name."
    )
    also: list[ShapesByLabel] = Field(
        default_factory=list, description="Further shapes at which the same artifact is verified."
    )
    bench: list[ShapesByLabel] = Field(default_factory=list, description="Further shapes at which latency is measured.")


class Case(ModelKeys, Defaults):
    """One case, or with a `matrix` every combination of its values."""

    elsewhere = dict.fromkeys(Input.model_fields, "it belongs to an input: `inputs: {x: {...}}`")

    name: CaseName = Field(examples=["small"], description="Unique in the file.")
    about: str = Field(default="", description="One line for the reader of the report.")
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None, min_length=1, description="Values by dotted path: one case for every combination."
    )
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = Field(
        default_factory=list, description="Combinations of the matrix to leave out, by dotted path."
    )


class SpecFile(ModelKeys):
    """A file of cases."""

    elsewhere = dict.fromkeys(Defaults.model_fields, "put it under `defaults:`, or in a case")

    harness: Literal[1] = Field(examples=[FORMAT], description="The format's version.")
    about: str = Field(default="", description="What the file is about.")
    defaults: Defaults = Field(default=Defaults(), description="Merged under every case; what a case says wins.")
    cases: list[Case] = Field(min_length=1, examples=["[...]"], description="The cases.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SpecFile.model_json_schema(),
        "title": "A harness spec",
    }
