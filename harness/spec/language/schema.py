"""The spec language as pydantic models, and as JSON Schema for editors.

The small types come first, each with its check and its JSON Schema. A case is validated twice by the same models: as
written, and again with the defaults merged under it and a point of its matrix set in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema
from typing_extensions import TypeAliasType

from harness.spec.language.case import Fill, Layout, Mode
from harness.spec.language.inputs.data_keys import DataKeys, DataPath, FactoryName
from harness.spec.language.inputs.fills import FILL_SCHEMA, RANGE_SCHEMA, parse_fill, parse_range
from harness.spec.language.inputs.names import (
    CASE_NAME,
    LABEL,
    OUTPUT_PATH,
    CaseName,
    Label,
    OutputPath,
    TensorLabel,
    text_schema,
)
from harness.spec.language.inputs.structure import (
    input_kind,
    inputs_by_label,
    is_one_shape,
    named_files,
    one_model_file,
    weights_kind,
    wired_kind,
)
from harness.spec.language.operations import OPERATIONS
from harness.spec.language.tolerances import TOLERANCE_SCHEMA, CaseTolerance, parse_tolerance
from harness.spec.yaml.strict import StrictModel

FORMAT = 1
SCHEMA_FILE = "harness.schema.json"
"""The file name of the schema beside specs, which name it in their first line."""

DEFAULT_STEPS = 4
"""The steps of a case with a `loop` that does not say how many."""
UNLABELED = ""
"""The label of a shape or gradient that is written without one."""


def _one_or_many(is_one: Callable[[Any], bool], wrap: Callable[[Any], Any]) -> BeforeValidator:
    """Accept a single value where several are expected: ``wrap`` gives it the form of several."""
    return BeforeValidator(lambda value: wrap(value) if is_one(value) else value)


LABEL_SCHEMA = text_schema(LABEL)
_SHAPE_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 16}

DType = Literal["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
FloatingDType = Literal["float32", "float64", "float16", "bfloat16"]

Labels = Annotated[
    list[Label],
    Field(min_length=1),
    _one_or_many(lambda value: isinstance(value, str), lambda word: [word]),
    WithJsonSchema({"anyOf": [LABEL_SCHEMA, {"type": "array", "items": LABEL_SCHEMA, "minItems": 1}]}),
]

Shape = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=16)]
Shapes = Annotated[
    list[Shape],
    _one_or_many(is_one_shape, lambda shape: [shape]),
    WithJsonSchema({"anyOf": [_SHAPE_SCHEMA, {"type": "array", "items": _SHAPE_SCHEMA}]}),
]
ShapesByLabel = Annotated[
    dict[str, Shape],
    Field(min_length=1),
    _one_or_many(lambda value: isinstance(value, list), lambda shape: {UNLABELED: shape}),
    WithJsonSchema({"anyOf": [_SHAPE_SCHEMA, {"type": "object", "additionalProperties": _SHAPE_SCHEMA}]}),
]

FillField = Annotated[Fill, PlainValidator(parse_fill), WithJsonSchema(FILL_SCHEMA)]
Range = Annotated[tuple[float, float], PlainValidator(parse_range), WithJsonSchema(RANGE_SCHEMA)]
ToleranceRules = Annotated[CaseTolerance, PlainValidator(parse_tolerance), WithJsonSchema(TOLERANCE_SCHEMA)]
Values = Annotated[Any, WithJsonSchema({"type": ["number", "boolean", "array"]})]

Arguments = Annotated[
    dict[str, Any],
    Field(description="Constructor arguments by name. A tensor is written as an input: `weight: {values: [...]}`."),
]
Forward = Annotated[dict[str, Any], Field(description="Constant keyword arguments of forward.")]
Expression = Annotated[str, Field(min_length=1)]
Gradients = Annotated[
    dict[str, Expression],
    Field(min_length=1),
    _one_or_many(lambda value: isinstance(value, str), lambda text: {UNLABELED: text}),
    WithJsonSchema({"type": ["string", "object"], "additionalProperties": {"type": "string"}}),
]


class Tensor(StrictModel):
    """A tensor: literal `values`, a `shape` with a `fill`, or a `file`."""

    values: Values = Field(default=None, description="Nested lists; `.nan`, `.inf`, `-.inf` and `-0.0` count.")
    shape: Shape | None = Field(default=None, description="The sizes, if there are no `values`.")
    fill: FillField | None = Field(default=None, description="How a `shape` is filled. Default: `normal`.")
    file: DataPath | None = Field(
        default=None,
        description="A file with the values, relative to the spec: .npz, .npy, .pt, .safetensors, or a test data set.",
    )
    key: str | None = Field(default=None, description="The array in the file. Default: the only one.")
    dtype: DType | None = Field(
        default=None, description="Default: the case's dtype; of whole numbers and booleans in a file, their own."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Default: derived from the case's id.")


class WeightsFile(StrictModel):
    """A file with all weights of the model."""

    file: DataPath = Field(examples=["net.safetensors"], description="The file, relative to the spec.")
    key: str | None = Field(
        default=None, description="The part of the file that holds them, such as `state_dict` in a checkpoint."
    )


class Input(Tensor):
    """An input, bound to `forward` by order; its name is a label."""

    layout: Layout = Field(default="contiguous", description="The memory layout.")


if TYPE_CHECKING:
    InputTree: TypeAlias = "Input | list[InputTree] | dict[str, InputTree] | None"
else:
    InputTree = TypeAliasType(
        "InputTree",
        Annotated[
            Annotated[Input, Tag("[tensor]")]
            | Annotated[list["InputTree"], Field(min_length=1), Tag("[list]")]
            | Annotated[dict[str, "InputTree"], Tag("[mapping]")]
            | Annotated[None, Tag("[null]")],
            Discriminator(input_kind),
        ],
    )


class Step(StrictModel):
    """One layer of a sequential model."""

    layer: str = Field(examples=["ReLU"], description="A torch.nn class.")
    args: Arguments = Field(default_factory=dict)
    forward: Forward = Field(default_factory=dict)


class WiredStep(Step):
    """One layer of a graph, with the names of its inputs and outputs."""

    in_: Labels = Field(alias="in", examples=["x"], description="The layer's input values, in the order of `forward`.")
    out: Labels = Field(examples=["y"], description="Names for the layer's output values.")


class WiredOperation(StrictModel):
    """A tensor operation of a graph, with the names of its inputs and its output."""

    op: str = Field(examples=["cat"], description="A function of torch.", json_schema_extra={"enum": list(OPERATIONS)})
    args: Annotated[dict[str, Any], Field(description="Arguments by name.")] = Field(default_factory=dict)
    in_: Labels = Field(alias="in", examples=["[a, b]"], description="The tensors that it takes, in order.")
    out: Labels = Field(examples=["y"], description="A name for the result.")


Wired = Annotated[
    Annotated[WiredStep, Tag("[layer]")] | Annotated[WiredOperation, Tag("[operation]")], Discriminator(wired_kind)
]


Weights = Annotated[
    Annotated[
        WeightsFile,
        _one_or_many(lambda value: isinstance(value, str), lambda name: {"file": name}),
        Tag("[file]"),
        WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, WeightsFile.model_json_schema()]}),
    ]
    | Annotated[dict[str, Tensor], Tag("[tensors]")],
    Discriminator(weights_kind),
]


class ModelKeys(StrictModel):
    """The keys that name a model: exactly one of `layer`, `sequential`, `graph` with `returns`, `factory`, `file`."""

    layer: str | None = Field(default=None, description="A torch.nn class.")
    sequential: list[Step] | None = Field(
        default=None, min_length=1, description="Layers, each applied to the output of the one before."
    )
    graph: list[Wired] | None = Field(
        default=None, min_length=1, description="Layers and tensor operations, connected by value names."
    )
    returns: Labels | None = Field(default=None, description="The values that a graph returns.")
    factory: FactoryName | None = Field(
        default=None, description="package.module:callable or path/to/file.py:callable; needs --allow-import."
    )
    file: Annotated[DataPath | None, BeforeValidator(one_model_file)] = Field(
        default=None,
        description="A model file beside the spec: .onnx, .ort, .pt2, or TorchScript, which needs --allow-import.",
    )


class ModelArguments(StrictModel):
    """The arguments and weights of a model."""

    args: Arguments = Field(default_factory=dict)
    forward: Forward = Field(default_factory=dict)
    weights: Weights = Field(
        default_factory=dict,
        description="Tensors by parameter name, and all other parameters get a seeded initialisation; or a file with "
        "all of them, .safetensors or .pt.",
    )


class OtherModel(ModelKeys, ModelArguments):
    """Another model, called with the same inputs."""


class Expect(StrictModel):
    """What must hold, beyond agreement with eager torch."""

    outputs: list[Tensor] | None = Field(
        default=None, min_length=1, description="What the outputs must equal within tolerance."
    )
    shape: Shapes | None = Field(
        default=None, description="The first output's shape, or a list with the shape of each output."
    )
    range: Range | None = Field(
        default=None, description="The range that every element of the first output must be in."
    )
    formula: Expression | None = Field(
        default=None, description="What the first output must equal, or a condition that must be true everywhere."
    )
    gradient: Gradients | None = Field(
        default=None, description="The gradient of the sum of the first output, on targets that support gradients."
    )
    gradient_range: Range | None = Field(
        default=None, description="The range that every element of that gradient must be in."
    )
    equals: OtherModel | None = Field(default=None, description="Another model that must give equal outputs.")
    differs_from: OtherModel | None = Field(default=None, description="Another model that must give different outputs.")
    raises: str | None = Field(default=None, min_length=1, description="Text that eager torch's error must contain.")


class Defaults(ModelArguments, DataKeys):
    """The keys that are merged under every case of the file."""

    remedies = dict.fromkeys(ModelKeys.model_fields, "put the model beside `defaults:`, or in a case")

    inputs: Annotated[dict[TensorLabel, InputTree], BeforeValidator(inputs_by_label)] = Field(
        default_factory=dict,
        json_schema_extra={"propertyNames": LABEL_SCHEMA},
        description="The inputs by label, in the order of `forward`: tensors, lists and mappings of inputs, or null.",
    )
    mode: Mode = Field(default="eval", description="The mode of the module, in which it is exported and run.")
    dtype: FloatingDType = Field(
        default="float32", description="The dtype of the parameters, and of inputs without a dtype of their own."
    )
    expect: Expect = Field(default=Expect(), description="What must hold, beyond agreement with eager torch.")
    tolerance: ToleranceRules | None = Field(
        default=None, description="The largest allowed error of an output. Default: the layer's tolerance."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Default: derived from the case's id.")
    dynamic: dict[str, dict[Annotated[int, Field(ge=0)], Label]] = Field(
        default_factory=dict, description="Dynamic axes of the export, by input and axis, each with a name."
    )
    also: list[ShapesByLabel] = Field(
        default_factory=list, description="Further shapes at which the same artifact is verified."
    )
    bench: list[ShapesByLabel] = Field(default_factory=list, description="Further shapes at which latency is measured.")
    draws: int = Field(
        default=2, ge=1, le=100, description="Sets of random inputs at each shape, which share no values."
    )
    loop: dict[OutputPath, TensorLabel] = Field(
        default_factory=dict,
        examples=["{present.0.key: past.0.key}"],
        json_schema_extra={"propertyNames": text_schema(OUTPUT_PATH)},
        description="Outputs that are inputs of the next step: a state, or a cache. All steps are compared.",
    )
    steps: int | None = Field(
        default=None, ge=2, le=1000, description=f"Calls in a row of a model with a `loop`. Default: {DEFAULT_STEPS}."
    )
    files: Annotated[dict[CaseName, DataPath], BeforeValidator(named_files)] = Field(
        default_factory=dict,
        examples=["{deployed: build/model.onnx}"],
        json_schema_extra={"propertyNames": text_schema(CASE_NAME)},
        description="Model files under test, by name. Their targets are file:NAME/RUNTIME.",
    )
    targets: list[str] = Field(
        default_factory=list,
        examples=["[file:deployed+int8/ort-cpu]"],
        description="Targets of the `files` for a run that names none. Default: the first one of each file.",
    )


class Case(ModelKeys, Defaults):
    """One case, or with a `matrix` every combination of its values."""

    remedies = dict.fromkeys(Input.model_fields, "it belongs to an input: `inputs: {x: {...}}`")

    name: CaseName = Field(examples=["small"], description="Unique in the file.")
    about: str = Field(default="", description="One line for readers of the report.")
    count: int | None = Field(
        default=None, ge=1, description="How often the model calls this layer; the report shows count x time."
    )
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None, min_length=1, description="Lists of values by dotted path: one case for every combination."
    )
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = Field(
        default_factory=list, description="Combinations of the matrix to leave out, by dotted path."
    )

    @property
    def tensors(self) -> dict[str, Input]:
        """The inputs by label, of a case whose nested inputs have been flattened."""
        return {label: tensor for label, tensor in self.inputs.items() if isinstance(tensor, Input)}


class SpecFile(ModelKeys):
    """A file of cases."""

    remedies = dict.fromkeys(Defaults.model_fields, "put it under `defaults:`, or in a case")

    harness: Literal[1] = Field(examples=[FORMAT], description="The version of the spec format.")
    about: str = Field(default="", description="The subject of the file.")
    defaults: Defaults = Field(
        default=Defaults(), description="Merged under every case; a case's own keys take precedence."
    )
    cases: list[Case] = Field(min_length=1, examples=["[...]"], description="The cases.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SpecFile.model_json_schema(),
        "title": "A harness spec",
    }
