"""One case in the manifest of a bundle: its inputs, references, expectations, exports, and the failed exports.

Paths are relative to the bundle's folder, with ``/``, and cannot point outside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, AliasChoices, Field, PositiveInt, TypeAdapter, ValidationError, model_validator

from harness.deprecated import with_current_keys
from harness.errors import Location
from harness.result import Result, to_json
from harness.spec.language.case import Case, Fill, FillKind, Layout, RecordedModel, TensorSpec
from harness.spec.language.description import describe_model
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.tensors import size_problems
from harness.spec.language.schema import DType, Shape
from harness.spec.language.tolerances import Rule, Tolerance, parse_tolerance, written_rule
from harness.spec.quoting import format_value
from harness.spec.yaml.strict import StrictModel, invalid_value, key_path

if TYPE_CHECKING:
    from typing_extensions import Self


PACK_AGAIN = "pack it again with harness pack"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Index = Annotated[int, Field(ge=0)]
MAX_FILL_PARAMETERS = 100_000
OutputShape = Annotated[list[Index], Field(max_length=64)]
"""A shape that NumPy accepts. No memory is allocated for it: it is only compared with the shape of an output."""
Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]


def _relative_path(path: str) -> str:
    """``path``, unchanged; refuses a path that is not plain or that could point outside the bundle."""
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or path.startswith("/") or {"..", "."} & {*parts} or {"\\", "\0"} & {*path}:
        raise invalid_value(f"{format_value(path)} points outside the bundle, or is not a plain path", PACK_AGAIN)
    return path


def _bounded_shape(shape: list[int]) -> list[int]:
    """``shape``, unchanged; refuses a shape that a spec could not have either."""
    for problem in size_problems(Location(""), shape):
        raise invalid_value(f"{problem.message}, and {problem.remedy}", PACK_AGAIN)
    return shape


def _one_rule(written: Any) -> Any:
    """``written``, unchanged; refuses everything but one rule in the syntax of a spec."""
    if parse_tolerance(written).by_output:
        raise invalid_value("by_output: a rule is for all outputs or for one", PACK_AGAIN)
    return written


def _check_result(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` without unknown keys; refuses everything but the result, as in a report, of a check that was not run."""
    try:
        result = _result_adapter().validate_python(with_current_keys(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise invalid_value(f"{key_path(first['loc'])}: {first['msg']}", PACK_AGAIN) from error
    if result.latency is not None or result.placement is not None or result.pictures:
        raise invalid_value("a check that was never run has no latency, no placement and no pictures", PACK_AGAIN)
    as_json: dict[str, Any] = to_json(result)
    return as_json


@cache
def _result_adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


RelativePath = Annotated[str, AfterValidator(_relative_path)]
Arrays = dict[str, RelativePath]
OneRule = Annotated[Any, AfterValidator(_one_rule)]
StoredResult = Annotated[dict[str, Any], AfterValidator(_check_result)]
"""A result as ``report.json`` holds it."""


class ToleranceEntry(StrictModel):
    """One rule for all outputs, and exceptions by the output's number, in the syntax of a spec."""

    rule: OneRule
    by_output: dict[Annotated[str, Field(pattern=r"^[0-9]+$")], OneRule]

    @classmethod
    def of(cls, tolerance: Tolerance) -> ToleranceEntry:
        """The entry for ``tolerance``."""
        by_output = {str(at): written_rule(rule) for at, rule in tolerance.by_output.items()}
        return cls(rule=written_rule(tolerance.rule), by_output=by_output)

    def tolerance(self) -> Tolerance:
        """The tolerance that outputs are compared by."""
        return Tolerance(_rule(self.rule), {int(at): _rule(rule) for at, rule in self.by_output.items()})


def _rule(written: Any) -> Rule:
    rule = parse_tolerance(written).rule
    assert rule is not None
    return rule


class FillEntry(StrictModel):
    """The fill of an input; the fields are those of :class:`harness.spec.language.case.Fill`."""

    kind: FillKind
    parameters: Annotated[list[Int64 | float], Field(max_length=MAX_FILL_PARAMETERS)]


class InputEntry(StrictModel):
    """An input of the case; ``fill`` and ``seed`` reproduce it bit by bit on every machine."""

    label: str
    dtype: DType
    shape: Annotated[Shape, AfterValidator(_bounded_shape)]
    layout: Layout = "contiguous"
    fill: FillEntry | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0

    @model_validator(mode="after")
    def _check_fill(self) -> Self:
        if self.fill is not None:
            if self.fill.kind == "full" and not self.fill.parameters:
                raise invalid_value("this fill cannot produce an input: full without a number", PACK_AGAIN)
            try:
                with np.errstate(all="ignore"):
                    array(replace(self.spec(), shape=(1,)))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise invalid_value(f"this fill cannot produce an input: {error}", PACK_AGAIN) from error
        return self

    @classmethod
    def of(cls, spec: TensorSpec) -> InputEntry:
        """The entry for ``spec``, without the values of an input that has literal values or a file."""
        fill = None if spec.is_literal else spec.fill or Fill("normal")
        numbers = [] if fill is None else [int(each) if isinstance(each, bool) else each for each in fill.parameters]
        return cls(
            label=spec.label,
            dtype=spec.dtype,  # type: ignore[arg-type]  # one of these dtypes, since the spec was checked
            shape=list(spec.shape),
            layout=spec.layout,
            fill=None if fill is None else FillEntry(kind=fill.kind, parameters=numbers),
            seed=spec.seed,
        )

    def spec(self) -> TensorSpec:
        """The input's specification, from which its array is made."""
        fill = None if self.fill is None else Fill(self.fill.kind, tuple(self.fill.parameters))
        return TensorSpec(self.label, self.dtype, tuple(self.shape), fill=fill, layout=self.layout, seed=self.seed)


class SampleEntry(StrictModel):
    """The sample that is recorded of large outputs; the fields are those of :class:`harness.model.answer.Sample`."""

    every: Annotated[int, Field(ge=1)]
    shapes: list[OutputShape]


class StepEntry(StrictModel):
    """The step of a loop that a round is; the fields are those of :class:`harness.model.answer.Step`."""

    number: PositiveInt
    of: PositiveInt
    loop: dict[str, str]
    float64: Arrays | None = None


class RoundEntry(StrictModel):
    """The arrays recorded at one set of shapes; the fields are those of :class:`harness.model.answer.Reference`.

    With ``sample``, no inputs are recorded: they are generated again from the case's fills. Earlier releases named the
    ``float64_reference`` otherwise.
    """

    inputs: Arrays
    eager: Arrays
    float64_reference: Annotated[Arrays | None, Field(validation_alias=AliasChoices("float64_reference", "oracle"))] = (
        None
    )
    magnitudes: list[RelativePath | None]
    undefined: list[RelativePath | None]
    stochastic: bool = False
    at: str | None = None
    sample: SampleEntry | None = None
    second_call: Arrays | None = None
    after_others: Arrays | None = None
    undecidable: str | None = None
    repeats_shapes: bool = False
    computes_in: Annotated[str, Field(pattern=r"^b?float16$")] | None = None
    paths: list[str] = Field(default_factory=list)
    step: StepEntry | None = None

    def files(self) -> Iterator[str]:
        """Every file that the round refers to."""
        yield from (*self.inputs.values(), *self.eager.values(), *(self.float64_reference or {}).values())
        yield from (*(self.second_call or {}).values(), *(self.after_others or {}).values())
        if self.step is not None:
            yield from (self.step.float64 or {}).values()
        yield from (path for path in (*self.magnitudes, *self.undefined) if path is not None)


class ExpectEntry(StrictModel):
    """The expectations of the spec; the fields are those of :class:`harness.check.judging.judge.Expected`.

    ``names`` are the arguments that its expressions refer to, ``arrays`` the parameters.
    """

    outputs: Arrays | None = None
    shape: list[Shape] | None = None
    range: Bounds | None = None
    formula: str | None = None
    gradient: dict[str, str]
    gradient_range: Bounds | None = None
    equals: Arrays | None = None
    differs_from: Arrays | None = None
    names: dict[str, Any]
    arrays: Arrays

    def files(self) -> Iterator[str]:
        """Every file that the expectations refer to."""
        for each in (self.outputs, self.equals, self.differs_from, self.arrays):
            yield from (each or {}).values()


class ExportEntry(StrictModel):
    """One exported file and its tolerance; the other fields are those of :class:`harness.exporters.Artifact`.

    ``wrong_weights`` is what is wrong with its quantized weights, which the float weights showed. ``in_training`` are
    its operators that compute as in training although nobody asked for it. ``layers`` has the file of the layers at
    each set of inputs (:mod:`harness.check.recorded.packed_layers`), if they are packed.
    """

    format: Literal["torchscript", "onnx", "ort"]
    path: RelativePath
    digest: Digest
    opset: int | None = None
    checker: str | None = None
    notes: list[str]
    tracer_warnings: list[str] = Field(default_factory=list)
    tolerance: ToleranceEntry
    wrong_weights: str | None = None
    in_training: list[str] = Field(default_factory=list)
    layers: list[RelativePath] = Field(default_factory=list)


class LocationEntry(StrictModel):
    """The place of the case in the specs that it was packed from."""

    file: str
    line: int = 1
    column: int = 1


class CaseEntry(StrictModel):
    """A case, with the id that it has in its specs. ``model`` describes it in one line.

        ``training`` are the first words about a module in training mode. ``further`` are rounds at inputs that need no
    proof, such as thresholds; their ``after_others`` are its answers to the first inputs at a call that follows.
    ``findings`` is a result with the findings about eager torch, compared with the float64 reference and the spec.
    ``raises`` is the message with which eager torch must refuse the case. ``not_packed`` has a result for each export
    without a file, since a failed export cannot be repeated on a board. ``bench`` is the case at the further shapes at
    which it is timed.
    """

    id: str
    about: str = ""
    model: str = ""
    draws: PositiveInt = 2
    count: PositiveInt | None = None
    where: LocationEntry
    inputs: list[InputEntry]
    rounds: list[RoundEntry]
    further: list[RoundEntry] = Field(default_factory=list)
    training: str | None = None
    expect: ExpectEntry
    findings: StoredResult | None = None
    raises: str | None = None
    exports: dict[str, ExportEntry]
    not_packed: dict[str, StoredResult]
    bench: list[CaseEntry] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if any(each.layers and len(each.layers) != len(self.rounds) for each in self.exports.values()):
            raise invalid_value("an export has the layers of other references", PACK_AGAIN)
        return self

    @classmethod
    def of(cls, case: Case) -> CaseEntry:
        """The entry for ``case`` before anything is built."""
        return cls(
            id=case.id,
            about=case.about,
            model=describe_model(case),
            draws=case.draws,
            count=case.count,
            where=LocationEntry(file=case.where.file, line=case.where.line, column=case.where.column),
            inputs=[InputEntry.of(each) for each in case.inputs],
            rounds=[],
            expect=ExpectEntry(gradient={}, names={}, arrays={}),
            raises=case.expect.raises,
            exports={},
            not_packed={},
        )

    def files(self) -> Iterator[str]:
        """Every file that is needed to verify the case."""
        yield from self.expect.files()
        for each in (*self.rounds, *self.further):
            yield from each.files()
        for export in self.exports.values():
            yield from (export.path, *export.layers)

    def at_every_shape(self) -> Iterator[CaseEntry]:
        """The case at its own shapes, then at those of ``bench``."""
        yield self
        yield from self.bench


@dataclass(frozen=True, slots=True)
class PackedModel(RecordedModel):
    """A case of the bundle whose folder is ``path``: exported files with everything they are compared with.

    ``seal`` changes when anything in the bundle does; ``entry`` is the case's part of the manifest.
    """

    seal: str
    entry: CaseEntry = field(repr=False)

    @property
    def in_one_line(self) -> str:
        """The model that was packed, as its spec names it; the bundle's folder if the bundle does not say."""
        return self.entry.model or self.path
