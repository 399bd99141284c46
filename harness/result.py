"""The result of a check and the report of a run: plain data, with the field names of ``report.json``.

:func:`to_json` writes non-finite numbers as the strings ``"nan"``, ``"inf"`` and ``"-inf"``;
:func:`result_from_json` turns them into numbers again.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic_core import CoreConfig, CoreSchema, SchemaSerializer, core_schema

from harness.deprecated import old_attributes, with_current_keys

Status = Literal["passed", "failed", "error", "known", "fixed", "skipped"]
Stage = Literal["build", "export", "load", "run", "compare"]
Symptom = Literal[
    "mismatch", "exception", "crash", "timeout", "out-of-memory", "unsupported", "unavailable", "placement"
]
Blame = Literal["exporter", "optimizer", "kernel", "rounding", "torch", "spec"]

STATUSES: tuple[Status, ...] = ("passed", "failed", "error", "known", "fixed", "skipped")

_NON_FINITE_WORDS = (b"NaN", b"Infinity")


@old_attributes(blind="inconclusive")
@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One output compared with its reference.

    ``max_abs`` and ``max_rel`` cover the elements where both are finite; ``max_ulp`` counts the representable numbers
    of the output's dtype between the two. ``mismatched`` of ``of`` elements differ by more than ``tolerance``;
    ``worst`` is the index of the one that exceeds it most. ``least_rtol`` (with atol 0) and ``least_atol`` (with
    rtol 0) are the smallest tolerances that would have passed; infinite if none would. ``problem`` is None if the
    output passes. ``inconclusive`` is the reason why a pass proves nothing: the tolerance could not have detected an
    error.
    ``at`` names the shape if the artifact is verified at several. ``rms`` is the RMS error against the float64
    reference, or against the reference itself without one; ``reference_rms`` is the reference's own against float64.
    ``sqnr`` is in dB. ``decisions`` are the counts of :mod:`harness.compare.decisions`, where a rule asks. ``extra``
    holds the values of other metrics, by name.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    tolerance: str
    max_abs: float | None = None
    max_rel: float | None = None
    max_ulp: int | None = None
    mismatched: int = 0
    of: int = 0
    worst: tuple[int, ...] | None = None
    actual_at_worst: float | None = None
    expected_at_worst: float | None = None
    least_rtol: float | None = None
    least_atol: float | None = None
    problem: str | None = None
    inconclusive: str | None = None
    at: str | None = None
    rms: float | None = None
    reference_rms: float | None = None
    sqnr: float | None = None
    cosine: float | None = None
    decisions: Mapping[str, Any] | None = field(default=None, hash=False)
    extra: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def passed(self) -> bool:
        """True if the structure is equal and every element is within the tolerance."""
        return self.problem is None


QUANTIZED_WEIGHTS = "quantized_weights"
NO_LAYERS = "no layers: "  # begins the note that says why a check has no layer table
NO_LAYER_COMPARED = "layers were asked for, and no layer of any check was compared; "


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one expectation of the spec.

    ``what`` is the key under ``expect`` (``outputs``, ``shape``, ``range``, ``formula``, ``gradient``,
    ``gradient_range``, ``equals``, ``differs_from``, ``raises``), ``float64_reference`` for the comparison of eager
    torch with the float64 reference, or :data:`QUANTIZED_WEIGHTS` for that of a file's weights with the float ones.
    """

    what: str
    passed: bool
    message: str
    comparison: OutputComparison | None = None


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance of eager torch and of the target from the float64 reference, for one output."""

    index: int
    eager_max_abs: float
    target_max_abs: float
    nearer: Literal["eager", "target", "neither"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of one layer inside a model, beside the same call of the reference.

    ``call`` counts the calls of the layer from 0; ``shape`` is that of its output. ``local``, ``accumulated`` and
    ``reference`` are RMS errors against float64 as a share of the RMS of the values: of the layer's own part on the
    reference's inputs, of the value as it came, and of the reference itself. ``sqnr`` (in dB) belongs to
    ``accumulated``, ``max_ulp`` is the largest distance of ``local`` from the reference. ``times`` is the local error
    in units of what rounding explains; above 1 the layer is ``wrong``. ``nonfinite`` counts values that are NaN or
    infinite on one side alone, ``nonfinite_new`` those that the reference does not have, and ``nonfinite_node`` is the
    first node that computes some. ``nodes`` are those of the file, ``seconds`` their time, and ``provider`` the
    execution provider that ran them, or several between commas. ``matched_by`` says how the
    ``value`` was found; that is its name in an ONNX file. A layer without a value of its own has no numbers:
    ``judged_with`` names the one it is part of. ``picture`` shows where the first wrong layers differ from the
    reference on its inputs (:mod:`harness.compare.pictures`).
    """

    path: str
    type: str
    call: int
    arguments: str = ""
    shape: tuple[int, ...] = ()
    local: float | None = None
    accumulated: float | None = None
    reference: float | None = None
    sqnr: float | None = None
    max_ulp: int | None = None
    times: float | None = None
    wrong: bool = False
    nonfinite: int = 0
    nonfinite_new: int = 0
    nonfinite_node: str | None = None
    nodes: tuple[str, ...] = ()
    seconds: float | None = None
    provider: str | None = None
    value: str | None = None
    matched_by: str | None = None
    judged_with: str | None = None
    picture: Mapping[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check: one case on one target.

    ``stage`` is the stage that did not finish or that found the disagreement; ``seconds`` is wall time by stage.
    ``evidence`` are the observations behind ``blame``, one per line. ``notes`` are remarks for the reader, on a passed
    check too. ``log`` is what libraries printed, warned and logged during the check. ``checker`` is the error of
    ``onnx.checker``. ``pictures`` show where outputs differ (:mod:`harness.compare.pictures`). ``reproduction`` is a
    script that shows the failure without harness; ``harness explain`` runs it. ``case_model`` is the model and its
    arguments in one line, ``about`` the spec's own words, ``inputs`` have a label, a dtype and a shape each, and
    ``draws`` is the number of sets of random inputs, and ``count`` how often a model calls the case's layer.
    ``artifact`` is the digest of the exported file, and ``artifact_path`` its place in the cache on the machine of the
    run; None if it was not kept. ``samples`` is what came of the case's samples, where these are judged as a whole
    (:mod:`harness.check.samples.sample_summary`). ``layers`` is the table of the inside of the model in order of
    execution, where it was asked for or a whole model fails; ``layers_show`` says in one sentence what it shows, and
    ``layers_uncovered`` lists the layers and nodes that it does not cover; ``layers_alone`` is True for a failure whose
    outputs agree: only a layer is wrong by itself. ``steps`` has a row for each step of a loop that was compared:
    ``step``, ``state`` (``reference`` or ``own``), ``at``, ``passed``, ``max_abs``, ``max_ulp`` and ``shapes``.
    """

    case: str
    target: str
    status: Status
    stage: Stage | None = None
    symptom: Symptom | None = None
    message: str | None = None
    blame: Blame | None = None
    evidence: tuple[str, ...] = ()
    outputs: tuple[OutputComparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    distances: tuple[Distance, ...] = ()
    placement: Mapping[str, Any] | None = None
    latency: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    checker: str | None = None
    artifact: str | None = None
    reason: str | None = None
    issue: str | None = None
    where: str | None = None
    pictures: tuple[Mapping[str, Any], ...] = ()
    reproduction: str | None = None
    case_model: str | None = None
    about: str | None = None
    inputs: tuple[Mapping[str, Any], ...] = ()
    draws: int | None = None
    count: int | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    artifact_path: str | None = None
    samples: Mapping[str, Any] | None = None
    layers: tuple[Layer, ...] = ()
    layers_show: str | None = None
    layers_uncovered: tuple[str, ...] = ()
    layers_alone: bool = False

    @property
    def inconclusive(self) -> str | None:
        """Why a pass is inconclusive: no output could have shown an error. None if it is not, or no pass."""
        reasons = (output.inconclusive for output in self.outputs if output.inconclusive)
        return next(reasons, None) if self.status == "passed" else None

    @property
    def compares_layers(self) -> bool:
        """True if a layer of the model was compared by itself."""
        return any(layer.local is not None for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: the environment and the result of every check. ``summary`` is computed, never stored."""

    environment: Mapping[str, Any]
    results: tuple[Result, ...]
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, int]:
        """The number of results by status, and of all as ``checks``."""
        statuses = [result.status for result in self.results]
        return {"checks": len(statuses), **{status: statuses.count(status) for status in STATUSES}}


def to_json(value: object) -> Any:
    """``value`` as JSON data: dataclasses as objects, tuples as lists, non-finite floats as strings."""
    if type(value) in _PLAIN:  # the most frequent case, tested first: a run has hundreds of thousands of such values
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return [to_json(item) for item in value]


_PLAIN = frozenset({str, int, bool, type(None)})


@cache
def _names(kind: type) -> tuple[str, ...]:
    """The field names of a dataclass; cached, since a report has the same few classes ten thousand times."""
    return tuple(item.name for item in dataclasses.fields(kind))


_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FLOATS = {
    *("max_abs", "max_rel", "least_rtol", "least_atol", "actual_at_worst", "expected_at_worst"),
    *("rms", "reference_rms", "sqnr", "cosine"),
}


def _comparison(raw: Mapping[str, Any]) -> OutputComparison:
    numbers = {key: _NON_FINITE.get(raw[key], raw[key]) for key in _FLOATS & raw.keys()}
    worst = raw.get("worst")
    return OutputComparison(
        **{
            **raw,
            **numbers,
            "shape": tuple(raw["shape"]),
            "worst": None if worst is None else tuple(worst),
            "extra": {key: _NON_FINITE.get(item, item) for key, item in raw.get("extra", {}).items()},
        }
    )


def result_from_json(raw: Mapping[str, Any]) -> Result:
    """The :class:`Result` that :func:`to_json` wrote as ``raw``.

    Raises ``KeyError`` or ``TypeError`` if ``raw`` is not a result; readers report that with its place in the file.
    """
    raw = with_current_keys(raw)
    findings = tuple(
        Finding(**{**item, "comparison": item.get("comparison") and _comparison(item["comparison"])})
        for item in raw.get("findings", ())
    )
    distances = tuple(
        Distance(**{key: _NON_FINITE.get(item, item) for key, item in distance.items()})
        for distance in raw.get("distances", ())
    )
    return Result(
        **{
            **raw,
            "outputs": tuple(_comparison(item) for item in raw.get("outputs", ())),
            "findings": findings,
            "distances": distances,
            **{key: _items(raw.get(key, ())) for key in _LISTS},
            "layers": tuple(_layer(item) for item in raw.get("layers", ())),
        }
    )


_LISTS = ("evidence", "notes", "log", "pictures", "inputs", "steps", "layers_uncovered")
_LAYER_FLOATS = ("local", "accumulated", "reference", "sqnr", "times", "seconds")


def _layer(raw: Mapping[str, Any]) -> Layer:
    numbers = {key: _NON_FINITE.get(raw[key], raw[key]) for key in _LAYER_FLOATS if key in raw}
    return Layer(**{**raw, **numbers, "shape": tuple(raw.get("shape", ())), "nodes": tuple(raw.get("nodes", ()))})


def _items(raw: Any) -> tuple[Any, ...]:
    """A list as a tuple. Raises ``TypeError`` for a text, whose letters are no items."""
    if isinstance(raw, str):
        raise TypeError("a text in the place of a list")
    return tuple(raw)


def to_json_line(value: object) -> bytes:
    """``value`` as one line of JSON, equal to :func:`to_json` of it.

    pydantic does this in a twentieth of the time, except for non-finite numbers and text that UTF-8 cannot encode.
    """
    with suppress(ValueError):
        text = _serializer(type(value)).to_json(value)  # type: ignore[arg-type]
        if not any(word in text for word in _NON_FINITE_WORDS):
            return text
    return json.dumps(to_json(value), separators=(",", ":")).encode()


@cache
def _serializer(kind: type) -> SchemaSerializer:
    return SchemaSerializer(_schema(kind), CoreConfig(ser_json_inf_nan="constants"))


def _schema(kind: Any) -> CoreSchema:
    """The schema of a dataclass and of the dataclasses in its fields; with it, no type is inferred per value."""
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        return core_schema.tuple_schema([_schema(get_args(kind)[0])], variadic_item_index=0)
    if not is_dataclass(kind):
        return core_schema.any_schema()
    hints = get_type_hints(kind)
    fields = [core_schema.dataclass_field(name, _schema(hint)) for name, hint in hints.items()]
    arguments = core_schema.dataclass_args_schema(str(kind), fields)
    assert isinstance(kind, type)
    return core_schema.dataclass_schema(kind, arguments, list(hints), slots=hasattr(kind, "__slots__"))
