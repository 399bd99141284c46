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
