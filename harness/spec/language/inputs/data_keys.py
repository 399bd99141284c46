"""The keys of a spec about many samples: their files, their labels, a metric of the user's, and the allowed drop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, PlainValidator, WithJsonSchema

from harness.spec.language.inputs.names import FACTORY, matches_pattern, text_schema
from harness.spec.quoting import format_value
from harness.spec.yaml.strict import StrictModel, invalid_value

PATH_SCHEMA: dict[str, JsonValue] = {"type": "string", "minLength": 1, "maxLength": 4096}
DataPath = Annotated[str, Field(min_length=1, max_length=4096)]
DataPaths = Annotated[
    list[DataPath],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [PATH_SCHEMA, {"type": "array", "items": PATH_SCHEMA, "minItems": 1}]}),
]
FactoryName = Annotated[
    str,
    matches_pattern(FACTORY, "a factory", "write package.module:callable, or path/to/file.py:callable"),
    WithJsonSchema(text_schema(FACTORY)),
]


class Labels(StrictModel):
    """Where the labels of the samples are: one for each in a file, or an array of each sample's own file."""

    file: str | None = None
    key: str | None = None


LABELS_REMEDY = "write a file with one label for each sample (labels.npy), or {key: NAME} for an array in each sample"


def _labels(value: Any) -> Labels:
    if isinstance(value, str) and value:
        return Labels(file=value)
    named = isinstance(value, Mapping) and value and value.keys() <= {"file", "key"}
    if named and all(isinstance(each, str) and each for each in value.values()):
        return Labels(**value)
    raise invalid_value(f"labels: {format_value(value)} names no labels", LABELS_REMEDY)


LabelsField = Annotated[
    Labels, PlainValidator(_labels), WithJsonSchema({"anyOf": [PATH_SCHEMA, Labels.model_json_schema()]})
]


class DataKeys(StrictModel):
    """The keys about samples."""

    samples: DataPaths | None = Field(
        default=None,
        examples=["data/*.npz"],
        description="Data files or folders, each file a further set of inputs by label. Without `inputs`, the first is "
        "the case's own.",
    )
    labels: LabelsField | None = Field(
        default=None,
        examples=["labels.npy"],
        description="The right decision for each sample: a file with one for each, or `{key: NAME}` in each sample.",
    )
    metric: FactoryName | None = Field(
        default=None,
        description="A function of the user's, package.module:callable, that takes an output and a label; needs "
        "--allow-import.",
    )
    better: Literal["higher", "lower"] = Field(default="higher", description="Which values of `metric` are better.")
    allowed_drop: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="How much worse than the reference's the metric (or the accuracy, without one) may be.",
    )
