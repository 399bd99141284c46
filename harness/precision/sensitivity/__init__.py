"""``harness sensitivity``: carry out the steps in a separate process, keep what was measured, and search.

Each choice of layers that was measured is a line of the journal (:class:`Journal`) at once. The same command continues
from it, as long as the model, its samples, the transform and the installed libraries are the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.engine.processes.temporary import temporary_folder
from harness.environment import versions
from harness.errors import HarnessError, Mistakes, UsageError
from harness.explain.process import ProcessEnd, SeparateProcess
from harness.precision import (
    START_SECONDS,
    STEP_FACTOR,
    STEP_SECONDS,
    Listener,
    Problems,
    make_folder,
    torch_is_here,
)
from harness.precision.hazards import Hazard
from harness.precision.layers import Layer, Lowering, keep_option
from harness.precision.measure import Timing
from harness.precision.model import ModelQuestion
from harness.precision.sensitivity import steps
from harness.precision.sensitivity.search import Choice, Found, Target, most_runs, points, search
from harness.precision.sensitivity.steps import Outcome, Start
from harness.report.wording import format_duration
from harness.result import to_json
from harness.spec import targets
from harness.spec.quoting import count_of

T = TypeVar("T")

TIMED_CHOICES = 12
JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Request:
    """Lower ``question`` by ``lowering`` so that ``target`` holds, and write the results to ``folder``."""

    question: ModelQuestion
    lowering: Lowering
    target: Target
    folder: Path


@dataclass(frozen=True, slots=True)
class TimedChoice:
    """A choice of kept layers with its latency; ``choice`` is None for the float32 model, whose ``sqnr`` is infinite.

    ``best`` is True if no other timed choice is both as fast and more accurate.
    """

    name: str
    choice: Choice | None
    timing: Timing
    sqnr: float
    bytes: int | None
    best: bool = False


@dataclass(frozen=True)
class Sensitivity:
    """The whole answer. ``timed`` has the float32 model first.

    ``verified`` is the outcome of the files that were written, None if no list reaches the target. ``hazards`` is a
    text if they are not known, and says why. ``reused`` counts the choices that an earlier run had measured.
    """

    model: str
    lowering: Lowering
    target: Target
    start: Start
    search: Found
    hazards: tuple[Hazard, ...] | str
    timed: tuple[TimedChoice, ...]
    verified: Outcome | None
    reused: int

    @property
    def reached(self) -> bool:
        """True if the files that were written reach the target."""
        return self.verified is not None and self.target.reached(self.verified.measure)

    @property
    def kept(self) -> tuple[Layer, ...]:
        """The layers of the list; none if there is no list."""
        return () if self.search.shortest is None else self.search.shortest.kept

    @property
    def kept_nodes(self) -> list[str]:
        """The nodes of :attr:`kept`."""
        return _nodes(self.kept)

    @property
    def target_word(self) -> str:
        """The target that lowers the float32 file again with the same list, as one word of ``--targets``."""
        kept = {keep_option(self.lowering.word): ",".join(self.kept_nodes)} if self.kept else {}
        options = {**self.lowering.options, **kept}
        target = targets.Target("file:float32", "ort-cpu", transforms=(self.lowering.word,), export_options=options)
        return str(target).replace(",", "%2C")


def run(request: Request, listener: Listener) -> Sensitivity:
    """Find the layers that cost accuracy, and a short list to keep.

    Raises :class:`UsageError` for a model that cannot be lowered or run. After ``KeyboardInterrupt``, the journal in
    ``request.folder`` has everything that was measured.
    """
    make_folder(request.folder)
    with (
        temporary_folder() as scratch,
        closing(SeparateProcess(scratch, torch=torch_is_here(), exporting=True)) as process,
    ):
        return _Run(request, listener, process).result()


class _Run:
    def __init__(self, request: Request, listener: Listener, process: SeparateProcess) -> None:
        self._request, self._listener, self._process = request, listener, process
        self._seconds = START_SECONDS
        self._known: dict[frozenset[str], Outcome] = {}
        self._reused: set[frozenset[str]] = set()

    def result(self) -> Sensitivity:
        request = self._request
        start = self._call(steps.start)
        if isinstance(start, ProcessEnd):
            raise UsageError(f"{request.question.model}: {start.description} while it was lowered; make sure it loads")
        if isinstance(start, Problems):
            raise Mistakes(start.problems)
        if start.everything.measure is None:
            raise UsageError(f"{request.question.model}: {start.everything.failed}")
        if request.target.decisions is not None and start.decided is None:
            raise UsageError(f"--decisions: no output of {request.question.model} decides anything; use --sqnr")
        self._journal = Journal(request.folder / JOURNAL, journal_key(start, request.lowering))
        self._seconds = max(STEP_SECONDS, STEP_FACTOR * start.seconds)
        self._known = {**self._journal.known, frozenset(): start.everything}
        self._announce(start)
        try:
            found = search(start.layers, request.target, self._attempt)
        finally:
            self._listener.end()
        hazards = self._call(steps.hazards, _nodes(start.layers))
        timed = self._time(start, found)
        verified = None
        if found.shortest is not None:
            verified = self._outcome(self._call(steps.write_files, _nodes(found.shortest.kept), self._to))
        return Sensitivity(
            request.question.model,
            request.lowering,
            request.target,
            start,
            found,
            hazards.description if isinstance(hazards, ProcessEnd) else hazards,
            timed,
            verified,
            len(self._reused),
        )

    @property
    def _to(self) -> Path:
        return self._request.folder.absolute()

    def _announce(self, start: Start) -> None:
        layers, samples = len(start.layers), len(start.samples)
        known = len(self._journal.known)
        runs = most_runs(layers)
        already = f", {known} of them known from {self._request.folder / JOURNAL}" if known else ""
        self._listener.tell(
            f"{count_of(layers, 'layer')} x {count_of(samples, 'sample')}: "
            f"at most {count_of(runs, 'run')} of all samples{already}; "
            f"{start.seconds:.2g} s each, about {format_duration(start.seconds * (layers + len(points(layers))))}"
        )
        self._listener.begin(runs, "runs")

    def _attempt(self, kept: Sequence[Layer]) -> Outcome:
        key = frozenset(layer.name for layer in kept)
        if key not in self._known:
            self._known[key] = self._outcome(self._call(steps.measure_kept, _nodes(kept)))
            self._journal.add(key, self._known[key])
        elif key in self._journal.known:
            self._reused.add(key)
        self._listener.advance()
        return self._known[key]

    def _time(self, start: Start, found: Found) -> tuple[TimedChoice, ...]:
        choices = _to_time(found)
        kept_nodes = {str(at): None if choice is None else _nodes(choice.kept) for at, choice in enumerate(choices)}
        timings = self._call(steps.time_choices, kept_nodes)
        if isinstance(timings, ProcessEnd):
            timings = {name: Timing(None) for name in kept_nodes}
        timed = []
        for timing, choice in zip(timings.values(), choices, strict=True):
            if choice is None:
                timed.append(TimedChoice("float32", None, timing, math.inf, start.bytes))
            else:
                measured = choice.outcome.measure
                ratio = -math.inf if measured is None else measured.sqnr
                name = _name(choice, found, self._request.lowering.word)
                timed.append(TimedChoice(name, choice, timing, ratio, choice.outcome.bytes))
        return _with_best(timed)

    def _call(self, step: Callable[..., T], *arguments: Any) -> T | ProcessEnd:
        question, lowering = self._request.question, self._request.lowering
        return self._process.call(step, question, lowering, *arguments, seconds=self._seconds)

    @staticmethod
    def _outcome(answer: Outcome | ProcessEnd) -> Outcome:
        return Outcome(None, failed=answer.description) if isinstance(answer, ProcessEnd) else answer


def _to_time(found: Found) -> tuple[Choice | None, ...]:
    """The choices that are timed: float32, the list, and a part of the curve with both of its ends."""
    curve = [choice for choice in found.curve if choice.outcome.measure is not None and not choice.outcome.unchanged]
    places = TIMED_CHOICES - 2
    if len(curve) > places:
        curve = [curve[round(at * (len(curve) - 1) / (places - 1))] for at in range(places)]
    shortest = [] if found.shortest is None or found.shortest.outcome.unchanged else [found.shortest]
    return (None, *shortest, *(choice for choice in curve if choice not in shortest))


def _name(choice: Choice, found: Found, word: str) -> str:
    if not choice.kept:
        return f"all in {word}"
    is_shortest = found.shortest is not None and choice.kept == found.shortest.kept
    return f"{'the list: ' if is_shortest else ''}{len(choice.kept)} kept"


def _with_best(timed: Sequence[TimedChoice]) -> tuple[TimedChoice, ...]:
    """Mark the choices that no other one beats in both latency and accuracy."""

    def beaten(each: TimedChoice) -> bool:
        return any(
            other.timing.median_us is not None
            and each.timing.median_us is not None
            and (other.timing.median_us, -other.sqnr) != (each.timing.median_us, -each.sqnr)
            and other.timing.median_us <= each.timing.median_us
            and other.sqnr >= each.sqnr
            for other in timed
        )

    return tuple(replace(each, best=each.timing.median_us is not None and not beaten(each)) for each in timed)


def _nodes(layers: Sequence[Layer]) -> list[str]:
    return [name for layer in layers for name in layer.nodes]


class Journal:
    """The choices that were measured, each a line of JSON. ``known`` are those of an earlier run."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self.known = dict(_read(path, key))
        self._write("w", {"key": key})
        for kept, outcome in self.known.items():
            self.add(kept, outcome)

    def add(self, kept: frozenset[str], outcome: Outcome) -> None:
        """Write one choice. Raises :class:`HarnessError` where the file cannot be written."""
        self._write("a", {"kept": sorted(kept), "outcome": to_json(outcome)})

    def _write(self, mode: str, line: dict[str, Any]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise HarnessError(f"{self._path}: {error.strerror}; make room, or name another folder with -o") from error


def _read(path: Path, key: str) -> list[tuple[frozenset[str], Outcome]]:
    """The choices of an earlier run; none if it was about something else. A line that is damaged does not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if not lines or json.loads(lines[0]) != {"key": key}:
            return []
    except (OSError, ValueError):
        return []
    choices: list[tuple[frozenset[str], Outcome]] = []
    adapter = TypeAdapter(Outcome)
    for line in lines[1:]:
        try:
            entry = json.loads(line)
            outcome = adapter.validate_python(entry["outcome"])
            if outcome.measure is not None:  # what failed is tried again
                choices.append((frozenset(entry["kept"]), outcome))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return choices


def journal_key(start: Start, lowering: Lowering) -> str:
    """What all choices of a journal share: the model, its samples, the lowering, and the installed libraries."""
    packages = dict(versions())
    names = [layer.name for layer in start.layers]
    text = json.dumps([start.digest, lowering.word, dict(lowering.options), names, packages], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
