"""The open parts of a report: mappings whose keys are nobody's to close, and what every reader relies on in them.

A key may be missing, and one that is not named here may hold anything: an older report had fewer, a newer one has more.
What is named here is of its type, or the report is refused before anything is made of it.

``report.json``: all of a run; every other format is made from what stands here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import Location, Problem, SpecError
from harness.latency.change import Verdict
from harness.result import Report, Result, to_json
from harness.spec.yaml.strict import read_json, refused

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from typing_extensions import Self


Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0)]
NotNegative = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Count = Annotated[int, Field(ge=0)]
Samples = Annotated[list[Positive], Field(min_length=1)]
Cell = Number | Literal["nan", "inf", "-inf"] | bool
Cells = list[list[Cell]]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]


class Open(BaseModel):
    """Keys that are named have their types, others are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Cpu(Open):
    """The CPU of a machine."""

    model: str | None = None
    usable: Count | None = None
    features: list[str] | None = None


class Gpu(Open):
    """One GPU of a machine."""

    name: str | None = None


class Environment(Open):
    """The machine and its versions; ``also`` holds those of the other reports that were merged."""

    packages: dict[str, str] = {}
    machine: str | None = None
    board: str | None = None
    os: str | None = None
    memory_gib: Number | None = None
    cpu: Cpu | None = None
    gpus: list[Gpu] | None = None
    also: list[Environment] = []


class Bench(Open):
    """How a run was timed."""

    budget_s: Positive = 5.0
    processes: Annotated[int, Field(ge=1)] = 1
    rounds: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    cpus: list[Count] = []


class Exports(Open):
    """How many exports a run made, and took from the cache."""

    made: Count = 0
    from_cache: Count = 0


class ParityChange(Open):
    """One check that is otherwise than it was."""

    kind: Literal["regressed", "mended", "otherwise", "unverified", "verified", "new", "gone", "numbers"]


class LatencyChange(Open):
    """One latency that is otherwise than it was, or cannot be compared."""

    verdict: Literal[Verdict, "not comparable"]


class Comparison(Open):
    """What :meth:`harness.report.diff.Diff.to_dict` wrote."""

    parity: list[ParityChange] | None = None
    latency: list[LatencyChange] | None = None


class Run(Open):
    """What was asked for, and how it went."""

    paths: list[str] = []
    targets: list[str] = []
    keywords: list[str] = []
    shard: str | None = None
    allow_import: bool = False
    seconds: NotNegative = 0.0
    began: str = ""
    interrupted: bool = False
    interrupted_by: str | None = None
    bench: Bench | None = None
    exports: Exports | None = None
    complaints: list[str] = []
    machines: list[str] = []
    baseline: dict[str, Any] | None = None
    comparison: Comparison | None = None


class Figure(Open):
    """A latency, as :class:`harness.latency.figure.Latency` and ``harness bench`` write it."""

    median_us: Positive = 1.0
    low_us: Positive | None = None
    high_us: Positive | None = None
    p90_us: Positive | None = None
    p99_us: Positive | None = None
    eager_us: Positive | None = None
    ratio: Positive | None = None
    ratio_low: Positive | None = None
    ratio_high: Positive | None = None
    noise: NotNegative | None = None
    processes: Count = 1
    samples: Count = 0
    batch: Count = 1
    quotable: bool = True
    notes: list[str] = []
    samples_us: Annotated[list[Samples], Field(min_length=1)] = [[1.0]]
    interrupted: list[list[int]] | None = None
    pace_us: list[list[Positive]] | list[Positive] | None = None
    shapes: str = ""
    elements: Count = 0
    by_shape: list[Figure] = []
    variants: dict[str, Figure] = {}
    transfer: Figure | None = None
    by_device: Figure | None = None

    @model_validator(mode="after")
    def _one_for_each_sample(self) -> Self:
        """What was measured beside the samples is there for each of them, or for none of a process."""
        paces = [own for own in self.pace_us or () if isinstance(own, list)]
        if not paces:  # an older report: nothing is made of its samples
            return self
        if "median_us" not in self.model_fields_set:
            raise ValueError("samples stand without their median")
        if len(paces) != len(self.samples_us) or any(
            len(own) not in {0, len(samples)} for own, samples in zip(paces, self.samples_us, strict=True)
        ):
            raise ValueError("there must be a pace for each sample")
        if len(self.interrupted or ()) != len(self.samples_us):
            raise ValueError("each process must tell its interrupted samples")
        return self


class Placement(Open):
    """Where the nodes of a graph ran."""

    asked: str | None = None
    nodes: dict[str, dict[str, Count]] = {}
    stray: list[str] = []


class Picture(Open):
    """Where an output differs, as :mod:`harness.compare.pictures` draws it."""

    output: Count
    plane: Pair
    shape: Pair
    worst: Pair
    expected: Cells
    actual: Cells
    error: Cells


class OpenResult(Open):
    """What is open in a result."""

    latency: Figure | None = None
    placement: Placement | None = None
    pictures: list[Picture] = []


class OpenParts(Open):
    """All of a report that is open."""

    environment: Environment = Environment()
    run: Run = Run()
    results: list[OpenResult]


FORMAT = 1
"""The version of the file's layout; a key that is only added does not change it."""

_RIGHT = "give a report.json that `harness run` wrote"


class JsonReport:
    """The Contract's ``report.json``, with ``run`` beside it; keys stand in the order of the dataclasses."""

    name = "json"
    suffix = ".json"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        return "".join(self.parts(report))

    def parts(self, report: Report) -> Iterator[str]:
        """Result by result: a whole run at once would take many times the room of its file."""
        whole = {
            "format": FORMAT,
            "environment": to_json(report.environment),
            "summary": report.summary,
            "run": to_json(report.run),
            "results": [],
        }
        yield _text(whole).removesuffix("[]\n}")
        before = "[\n  "
        for result in report.results:
            yield before
            yield _text(to_json(result)).replace("\n", "\n  ")
            before = ",\n  "
        yield "\n ]\n}\n" if report.results else "[]\n}\n"


def _text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


PROVIDES = (JsonReport(),)


def read_report(path: Path) -> Report:
    """The :class:`Report` that :class:`JsonReport` wrote to ``path``.

    Keys that this version does not know are passed over. Raises :class:`SpecError`, one line a
    problem, where the file is missing, cut short, of a newer format, or not such a report.
    """
    raw = _whole(path)
    newest = raw.get("format")
    if type(newest) is not int or newest < 1:
        raise refused(path, "this is not a harness report: it has no `format` number", _RIGHT)
    if newest > FORMAT:
        raise refused(path, f"this report is of format {newest}", f"this harness reads format {FORMAT}; update it")
    if not isinstance(raw.get("results"), list):
        raise refused(path, "this is not a harness report: it has no list of `results`", _RIGHT)
    report = Report(_mapping(path, raw, "environment"), _results(path, raw), _mapping(path, raw, "run"))
    if "summary" in raw and raw["summary"] != report.summary:
        raise refused(path, "`summary` does not count the results that stand below it", _RIGHT)
    return report


def _whole(path: Path) -> dict[str, Any]:
    raw = read_json(path, "the report", _RIGHT)
    if not isinstance(raw, dict):
        raise refused(path, "this is not a harness report: it is not a JSON object", _RIGHT)
    return raw


def _results(path: Path, raw: dict[str, Any]) -> tuple[Result, ...]:
    from pydantic import ValidationError

    try:
        OpenParts.model_validate(raw)
        return tuple(_adapter().validate_python(raw["results"]))
    except ValidationError as error:
        raise SpecError(
            Problem(Location(str(path)), f"{_place(problem['loc'], raw)}: {problem['msg']}", _RIGHT)
            for problem in error.errors(include_url=False, include_input=False)
        ) from error


def _place(keys: tuple[int | str, ...], raw: dict[str, Any]) -> str:
    """``results[0].latency.median_us``."""
    told = keys if keys and keys[0] in raw else ("results", *keys)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in told).removeprefix(".")


@cache
def _adapter() -> TypeAdapter[list[Result]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Result])


def _mapping(path: Path, raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise refused(path, f"`{key}` is not an object", _RIGHT)
    return value
