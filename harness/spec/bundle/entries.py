"""What the manifest of a bundle says of one case: its exports, what they are held to, and what there is no file of.

A path is told with ``/`` from the bundle's folder, and leads nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from harness.errors import Location
from harness.result import Result, to_json
from harness.spec.language.case import Fill, FillKind, Layout, TensorSpec
from harness.spec.language.fills import array
from harness.spec.language.schema import DType, Shape
from harness.spec.language.tensors import size_problems
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp, tolerance
from harness.spec.quoting import shown
from harness.spec.yaml.strict import Strict, objection, place_in

if TYPE_CHECKING:
    from typing_extensions import Self

    from harness.spec.language.case import Case


PACK_ANEW = "pack it anew with harness pack"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Index = Annotated[int, Field(ge=0)]
MOST_CHOICES = 100_000
OutputShape = Annotated[list[Index], Field(max_length=64)]
"""What NumPy takes; no memory is set aside by it, since outputs are only compared with it."""
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


def _inside(path: str) -> str:
    """``path`` as it is written, where it can only lead to a place below the folder that it is told from."""
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or path.startswith("/") or {"..", "."} & {*parts} or {"\\", "\0"} & {*path}:
        raise objection(f"{shown(path)} leads out of the bundle, or is not a plain path", PACK_ANEW)
    return path


def _of_some_size(shape: list[int]) -> list[int]:
    """``shape``, where a spec could ask for it too."""
    for problem in size_problems(Location(""), shape):
        raise objection(f"{problem.wrong}, and {problem.right}", PACK_ANEW)
    return shape


def _one_rule(words: Any) -> Any:
    """``words`` as they are, where they are a rule in the words of a spec."""
    if tolerance(words).by_output:
        raise objection("by_output: a rule is for all outputs or for one", PACK_ANEW)
    return words


def _result(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` less the keys that are unknown here, where it is a result as a report holds it, of a check never run."""
    try:
        told = _results().validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise objection(f"{place_in(first['loc'])}: {first['msg']}", PACK_ANEW) from error
    if told.latency is not None or told.placement is not None or told.pictures:
        raise objection("a check that was never run has no latency, no placement and no pictures", PACK_ANEW)
    known: dict[str, Any] = to_json(told)
    return known


@cache
def _results() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


Inside = Annotated[str, AfterValidator(_inside)]
Arrays = dict[str, Inside]
OneRule = Annotated[Any, AfterValidator(_one_rule)]
Told = Annotated[dict[str, Any], AfterValidator(_result)]
"""A result as ``report.json`` holds it."""


class ToleranceEntry(Strict):
    """One rule for all outputs, and exceptions by the output's number; in the words of a spec."""

    rule: OneRule
    by_output: dict[Annotated[str, Field(pattern=r"^[0-9]+$")], OneRule]

    @classmethod
    def of(cls, held_to: Tolerance) -> ToleranceEntry:
        """``held_to`` in words."""
        by_output = {str(at): _in_words(rule) for at, rule in held_to.by_output.items()}
        return cls(rule=_in_words(held_to.rule), by_output=by_output)

    def tolerance(self) -> Tolerance:
        """The same as the data that outputs are compared by."""
        return Tolerance(_rule(self.rule), {int(at): _rule(words) for at, words in self.by_output.items()})


def _rule(words: Any) -> Rule:
    rule = tolerance(words).rule
    assert rule is not None
    return rule


def _in_words(rule: Rule) -> Any:
    """``rule`` as a spec writes it."""
    match rule:
        case Exact():
            return "exact"
        case Ulp(n):
            return {"ulp": n}
        case Scaled(n):
            return {"scaled": n}
        case Close(rtol, atol):
            return {"rtol": rtol, "atol": atol}


class FillEntry(Strict):
    """How an input is filled; the fields are those of :class:`harness.spec.language.case.Fill`."""

    kind: FillKind
    parameters: Annotated[list[Whole | float], Field(max_length=MOST_CHOICES)]


class InputEntry(Strict):
    """An input of the case, by its label; ``fill`` and ``seed`` draw it anew, bit by bit, on any machine."""

    label: str
    dtype: DType
    shape: Annotated[Shape, AfterValidator(_of_some_size)]
    layout: Layout = "contiguous"
    fill: FillEntry | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.fill is not None:
            if self.fill.kind == "full" and not self.fill.parameters:
                raise objection("no input can be drawn by this fill: full without a number", PACK_ANEW)
            try:
                with np.errstate(all="ignore"):
                    array(replace(self.spec(), shape=(1,)))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise objection(f"no input can be drawn by this fill: {error}", PACK_ANEW) from error
        return self

    @classmethod
    def of(cls, spec: TensorSpec) -> InputEntry:
        """``spec``, without the values of one that has them written out."""
        drawn = None if spec.values is not None else spec.fill or Fill("normal")
        numbers = [] if drawn is None else [int(each) if isinstance(each, bool) else each for each in drawn.parameters]
        return cls(
            label=spec.label,
            dtype=spec.dtype,  # type: ignore[arg-type]  # one of them, as the spec was checked
            shape=list(spec.shape),
            layout=spec.layout,
            fill=None if drawn is None else FillEntry(kind=drawn.kind, parameters=numbers),
            seed=spec.seed,
        )

    def spec(self) -> TensorSpec:
        """The same as the data that arrays are filled by."""
        fill = None if self.fill is None else Fill(self.fill.kind, tuple(self.fill.parameters))
        return TensorSpec(self.label, self.dtype, tuple(self.shape), fill=fill, layout=self.layout, seed=self.seed)


class SampleEntry(Strict):
    """Outputs of which a part is recorded; the fields are those of :class:`harness.model.answer.Sample`."""

    every: Annotated[int, Field(ge=1)]
    shapes: list[OutputShape]


class RoundEntry(Strict):
    """What was recorded at one set of shapes; the fields are those of :class:`harness.model.answer.Reference`.

    With ``sample``, the inputs are not recorded: the case's are drawn anew.
    """

    inputs: Arrays
    eager: Arrays
    oracle: Arrays | None = None
    magnitudes: list[Inside | None]
    undefined: list[Inside | None]
    stochastic: bool = False
    at: str | None = None
    sample: SampleEntry | None = None

    def files(self) -> Iterator[str]:
        """Every file that the round speaks of."""
        yield from (*self.inputs.values(), *self.eager.values(), *(self.oracle or {}).values())
        yield from (path for path in (*self.magnitudes, *self.undefined) if path is not None)


class ExpectEntry(Strict):
    """What the spec expects; the fields are those of :class:`harness.check.expectations.Expected`.

    ``names`` are the arguments that its expressions speak of, ``arrays`` the parameters.
    """

    outputs: Arrays | None = None
    shape: list[Shape] | None = None
    range: Pair | None = None
    formula: str | None = None
    gradient: dict[str, str]
    gradient_range: Pair | None = None
    equals: Arrays | None = None
    differs_from: Arrays | None = None
    names: dict[str, Any]
    arrays: Arrays

    def files(self) -> Iterator[str]:
        """Every file that the expectations speak of."""
        for each in (self.outputs, self.equals, self.differs_from, self.arrays):
            yield from (each or {}).values()


class ExportEntry(Strict):
    """One exported file; the fields are those of :class:`harness.exporters.Artifact`, with what it is held to."""

    format: Literal["torchscript", "onnx"]
    path: Inside
    digest: Digest
    opset: int | None = None
    checker: str | None = None
    notes: list[str]
    tolerance: ToleranceEntry


class Place(Strict):
    """Where the case stands in the specs that it was packed from."""

    file: str
    line: int = 1
    column: int = 1


class CaseEntry(Strict):
    """A case by the id that it has in its specs.

    ``findings`` are a result that tells how eager torch was held against its definition and the spec. ``raises`` is
    the text with which eager torch refuses the case, where it is to be refused. ``not_packed`` are, by export, the
    results that stand for what there is no file of: an export that failed cannot be taken to a board. ``bench`` is the
    case at the further shapes at which it is timed.
    """

    id: str
    about: str = ""
    where: Place
    inputs: list[InputEntry]
    rounds: list[RoundEntry]
    expect: ExpectEntry
    findings: Told | None = None
    raises: str | None = None
    exports: dict[str, ExportEntry]
    not_packed: dict[str, Told]
    bench: list[CaseEntry] = Field(default_factory=list)

    @classmethod
    def of(cls, case: Case) -> CaseEntry:
        """What can be said of ``case`` before anything is built."""
        return cls(
            id=case.id,
            about=case.about,
            where=Place(file=case.where.file, line=case.where.line, column=case.where.column),
            inputs=[InputEntry.of(each) for each in case.inputs],
            rounds=[],
            expect=ExpectEntry(gradient={}, names={}, arrays={}),
            raises=case.expect.raises,
            exports={},
            not_packed={},
        )

    def files(self) -> Iterator[str]:
        """Every file without which the case cannot be verified."""
        yield from self.expect.files()
        for part in self.rounds:
            yield from part.files()
        yield from (export.path for export in self.exports.values())

    def at_every_shape(self) -> Iterator[CaseEntry]:
        """The case at its own shapes, then at those of ``bench``."""
        yield self
        yield from self.bench
