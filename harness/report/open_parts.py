"""The open parts of a report: mappings whose keys are nobody's to close, and what every reader relies on in them.

A key may be missing, and one that is not named here may hold anything: an older report had fewer, a newer one has more.
What is named here is of its type, or the report is refused before anything is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.latency.change import Verdict

if TYPE_CHECKING:
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
