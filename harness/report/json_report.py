"""``report.json``: everything about a run, written and read back. Every other format is made from the same data.

The models at the beginning describe the parts of a report whose keys are open (environment, run, latency, placement,
pictures), as far as readers rely on them. A key may be missing, and a key without a model may hold anything: an older
report had fewer keys, a newer one has more. A value whose type differs from the model's makes the report invalid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.deprecated import with_current_keys
from harness.errors import Location, Problem, SpecError
from harness.latency.change import Verdict
from harness.result import Report, Result, to_json
from harness.spec.yaml.strict import file_error, read_json

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
    """A mapping whose other keys are ignored."""

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
    """The machine and its versions; ``also`` has those of the other machines of a merged report."""

    packages: dict[str, str] = {}
    machine: str | None = None
    board: str | None = None
    os: str | None = None
    memory_gib: Number | None = None
    cpu: Cpu | None = None
    gpus: list[Gpu] | None = None
    also: list[Environment] = []


class Bench(Open):
    """The settings of ``harness bench``."""

    budget_s: Positive = 5.0
    processes: Annotated[int, Field(ge=1)] = 1
    rounds: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    cpus: list[Count] = []


class Exports(Open):
    """How many exports a run made and how many it took from the cache."""

    made: Count = 0
    from_cache: Count = 0


class ParityChange(Open):
    """One check that changed."""

    kind: Literal["regressed", "mended", "otherwise", "unverified", "verified", "new", "gone", "numbers"]


class LatencyChange(Open):
    """One latency that was compared, or cannot be."""

    verdict: Literal[Verdict, "not comparable"]


class Comparison(Open):
    """What :meth:`harness.report.diff.Diff.to_dict` wrote."""

    parity: list[ParityChange] | None = None
    latency: list[LatencyChange] | None = None


class Run(Open):
    """The request of a run, and how it went."""

    paths: list[str] = []
    targets: list[str] = []
    keywords: list[str] = []
    unmatched_keywords: list[str] = []
    shard: str | None = None
    shards: list[str] = []
    unfinished: list[str] = []
    missing_shards: list[str] = []
    allow_import: bool = False
    layers: bool = False
    strict: bool = False
    strict_ulp: Count | None = None
    seconds: NotNegative = 0.0
    began: str = ""
    interrupted: bool = False
    interrupted_by: str | None = None
    not_run: Count = 0
    bench: Bench | None = None
    exports: Exports | None = None
    complaints: list[str] = []
    machines: list[str] = []
    baseline: dict[str, Any] | None = None
    comparison: Comparison | None = None
    compared: dict[str, Any] | None = None


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
    low_confidence: bool = False
    notes: list[str] = []
    samples_us: Annotated[list[Samples], Field(min_length=1)] = [[1.0]]
    interrupted: list[list[int]] | None = None
    calibration_us: list[list[Positive]] | list[Positive] | None = None
    shapes: str = ""
    elements: Count = 0
    by_shape: list[Figure] = []
    variants: dict[str, Figure] = {}
    transfer: Figure | None = None
    by_device: Figure | None = None

    @model_validator(mode="after")
    def _calibration_per_sample(self) -> Self:
        """Check that each process has a calibration time for each of its samples, or none at all."""
        calibrations = [times for times in self.calibration_us or () if isinstance(times, list)]
        if not calibrations:  # an older report: its samples are not used
            return self
        if "median_us" not in self.model_fields_set:
            raise ValueError("samples_us needs median_us")
        if len(calibrations) != len(self.samples_us) or any(
            len(times) not in {0, len(samples)} for times, samples in zip(calibrations, self.samples_us, strict=True)
        ):
            raise ValueError("calibration_us needs one time for each sample")
        if len(self.interrupted or ()) != len(self.samples_us):
            raise ValueError("interrupted needs one list for each process")
        return self


class Placement(Open):
    """Where the nodes of a graph ran."""

    asked: str | None = None
    nodes: dict[str, dict[str, Count]] = {}
    stray: list[str] = []


class Plane(Open):
    """Where values differ, as :mod:`harness.compare.pictures` draws it."""

    plane: Pair
    shape: Pair
    worst: Pair
    expected: Cells
    actual: Cells
    error: Cells


class Picture(Plane):
    """Where an output differs."""

    output: Count


class OpenLayer(Open):
    """The open parts of a layer."""

    picture: Plane | None = None


class OpenResult(Open):
    """The open parts of a result."""

    latency: Figure | None = None
    placement: Placement | None = None
    pictures: list[Picture] = []
    layers: list[OpenLayer] = []


class OpenParts(Open):
    """The open parts of a report."""

    environment: Environment = Environment()
    run: Run = Run()
    results: list[OpenResult]


FORMAT = 1
"""The version of the file's layout. A key that is only added does not change it."""

_REMEDY = "name a report.json that `harness run` wrote"


class JsonReport:
    """All of a run as JSON. Keys are in the order of the dataclass fields."""

    name = "json"
    suffix = ".json"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        return "".join(self.parts(report))

    def parts(self, report: Report) -> Iterator[str]:
        """The text result by result: all of a run at once would take many times the memory of its file."""
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

    Unknown keys are ignored; keys that an earlier release named otherwise are read. Raises :class:`SpecError`, one line
    per problem, if the file is missing, cut short, of a newer format, or not such a report.
    """
    raw = _whole(path)
    version = raw.get("format")
    if type(version) is not int or version < 1:
        raise file_error(path, "not a harness report: it has no `format` number", _REMEDY)
    if version > FORMAT:
        raise file_error(path, f"this report has format {version}", f"this harness reads format {FORMAT}; update it")
    if not isinstance(raw.get("results"), list):
        raise file_error(path, "not a harness report: it has no list of `results`", _REMEDY)
    raw["results"] = [with_current_keys(result) for result in raw["results"]]
    report = Report(_mapping(path, raw, "environment"), _results(path, raw), _mapping(path, raw, "run"))
    if "summary" in raw and raw["summary"] != report.summary:
        raise file_error(path, "`summary` does not match the results", _REMEDY)
    return report


def _whole(path: Path) -> dict[str, Any]:
    raw = read_json(path, "the report", _REMEDY)
    if not isinstance(raw, dict):
        raise file_error(path, "not a harness report: not a JSON object", _REMEDY)
    return raw


def _results(path: Path, raw: dict[str, Any]) -> tuple[Result, ...]:
    from pydantic import ValidationError

    try:
        OpenParts.model_validate(raw)
        return tuple(_adapter().validate_python(raw["results"]))
    except ValidationError as error:
        raise SpecError(
            Problem(Location(str(path)), f"{_place(problem['loc'], raw)}: {problem['msg']}", _REMEDY)
            for problem in error.errors(include_url=False, include_input=False)
        ) from error


def _place(keys: tuple[int | str, ...], raw: dict[str, Any]) -> str:
    """``keys`` as ``results[0].latency.median_us``."""
    path = keys if keys and keys[0] in raw else ("results", *keys)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


@cache
def _adapter() -> TypeAdapter[list[Result]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Result])


def _mapping(path: Path, raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise file_error(path, f"`{key}` is not an object", _REMEDY)
    return value
