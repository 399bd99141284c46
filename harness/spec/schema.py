"""The whole spec language, as pydantic models and as JSON Schema for editors.

A case is checked twice by the same models: as it is written, and once more resolved, with the
defaults under it and a point of its matrix over it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from harness.spec.case import Layout, Mode
from harness.spec.parts import (
    LABEL_SCHEMA,
    ONLY,
    CaseName,
    DType,
    FactoryName,
    Filling,
    FloatingDType,
    Label,
    Labels,
    Range,
    Rules,
    Shape,
    Shapes,
    ShapesByLabel,
    Values,
    either,
)
from harness.spec.strict import Strict

FORMAT = 1

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

    values: Values = None
    shape: Shape | None = None
    fill: Filling | None = None
    dtype: DType | None = Field(default=None, description="The case's own where it is not said.")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="From the case's id where it is not said.")


class Input(Tensor):
    """An input, bound to `forward` by order; its name is a label."""

    layout: Layout = "contiguous"


class Step(Strict):
    """One layer of a sequential model."""

    layer: str = Field(examples=["ReLU"], description="A torch.nn class.")
    args: Arguments = Field(default_factory=dict)
    forward: Forward = Field(default_factory=dict)


class WiredStep(Step):
    """One layer of a graph, with the names of what it reads and writes."""

    in_: Labels = Field(alias="in", examples=["x"])
    out: Labels = Field(examples=["y"])


class ModelKeys(Strict):
    """What names a model: exactly one of `layer`, `sequential`, `graph` with `returns`, `factory`."""

    layer: str | None = Field(default=None, description="A torch.nn class.")
    sequential: list[Step] | None = Field(default=None, min_length=1)
    graph: list[WiredStep] | None = Field(default=None, min_length=1)
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

    outputs: list[Tensor] | None = Field(default=None, min_length=1)
    shape: Shapes | None = None
    range: Range | None = None
    formula: Expression | None = None
    gradient: Gradients | None = None
    gradient_range: Range | None = None
    equals: OtherModel | None = None
    differs_from: OtherModel | None = None
    raises: str | None = Field(default=None, min_length=1, description="Text in eager torch's error.")


class Defaults(ModelArguments):
    """What is merged under every case of the file."""

    elsewhere = dict.fromkeys(ModelKeys.model_fields, "a model stands beside `defaults:`, or in a case")

    inputs: dict[Label, Input] = Field(default_factory=dict, json_schema_extra={"propertyNames": LABEL_SCHEMA})
    mode: Mode = "eval"
    dtype: FloatingDType = "float32"
    expect: Expect = Expect()
    tolerance: Rules | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    dynamic: dict[str, dict[Annotated[int, Field(ge=0)], Label]] = Field(default_factory=dict)
    also: list[ShapesByLabel] = Field(
        default_factory=list, description="Further shapes at which the same artifact is verified."
    )
    bench: list[ShapesByLabel] = Field(default_factory=list, description="Further shapes at which latency is measured.")


class Case(ModelKeys, Defaults):
    """One case, or with a `matrix` every combination of its values."""

    elsewhere = dict.fromkeys(Input.model_fields, "it belongs to an input: `inputs: {x: {...}}`")

    name: CaseName = Field(examples=["small"])
    about: str = ""
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(default=None, min_length=1)
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = Field(default_factory=list)


class SpecFile(ModelKeys):
    """A file of cases."""

    elsewhere = dict.fromkeys(Defaults.model_fields, "put it under `defaults:`, or in a case")

    harness: Literal[1] = Field(examples=[FORMAT], description="The format's version.")
    about: str = ""
    defaults: Defaults = Defaults()
    cases: list[Case] = Field(min_length=1, examples=["[...]"])


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SpecFile.model_json_schema(),
        "title": "A harness spec",
    }
