"""A tolerance of the Python API, written as in a spec, as the rules that outputs are held to.

What the Python API answers: each says whether it passed, in words why not, and can be asserted.

``harness.run``: the command of the same name, as a function.

``harness.compare``: one answer held against another.

``harness.verify``: a module that is at hand, taken to the targets that are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_core import PydanticCustomError

from harness.check.settings import Settings, cache_folder, with_time_limit
from harness.compare.verdict import compare as hold
from harness.engine.processes.temporary import temporary_folder
from harness.errors import UsageError
from harness.gate import expected
from harness.layers import default_tolerance
from harness.pipeline import Outcome, Request
from harness.pipeline import run as carry_out
from harness.report.wording import explanation, numbers, outcome, telling, verdict, wrong
from harness.result import OutputComparison, Report, Result
from harness.spec.language.tolerances import CaseTolerance, Exact, Scaled, Tolerance
from harness.spec.language.tolerances import tolerance as parsed
from harness.spec.targets import BUILT_IN, FILE, Target, TargetSets, parse_target


def unscaled(written: Any) -> CaseTolerance:
    """What ``written`` says; nothing where it is None.

    Raises :class:`UsageError` where it is no tolerance, and for ``scaled``, which needs the terms that were added up:
    of a module of one's own, and of bare arrays, nobody knows them.
    """
    if written is None:
        return CaseTolerance()
    try:
        tolerance = parsed(written)
    except PydanticCustomError as error:
        raise UsageError(f"tolerance: {error.message()}") from None
    if any(isinstance(rule, Scaled) for rule in (tolerance.rule, *tolerance.by_output.values())):
        raise UsageError("tolerance: scaled needs to know the terms that were added up; use ulp, or rtol and atol")
    return tolerance


class Answer:
    """Something that passed or did not. It is true where it passed, so that ``assert harness.verify(...)`` means it."""

    __slots__ = ()

    @property
    def passed(self) -> bool:
        """True where all of it is as it should be."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """What is wrong, one line for each; or that nothing is."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return self.message

    def assert_passed(self) -> None:
        """Raise ``AssertionError`` with :attr:`message` unless it passed."""
        if not self.passed:
            raise AssertionError(self.message)


@dataclass(frozen=True, slots=True, repr=False)
class Verified(Answer):
    """A module on some targets: a :class:`harness.result.Result` for each, in their order."""

    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """True where every target was verified and agrees; one that is not on this machine was not verified."""
        return bool(self.results) and all(result.status == "passed" for result in self.results)

    @property
    def message(self) -> str:
        """What is wrong, one line for each target; or that nothing is."""
        short = [result for result in self.results if result.status != "passed"]
        return "\n".join(map(told, short)) or f"agrees on {', '.join(result.target for result in self.results)}"

    def __repr__(self) -> str:
        return f"<{self.message}>"


@dataclass(frozen=True, slots=True, repr=False)
class Compared(Answer):
    """Outputs held against expected ones: a comparison for each, and what is wrong with the answer as a whole."""

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True where something was compared and nothing is wrong."""
        return bool(self.outputs) and not self.problems and all(output.passed for output in self.outputs)

    @property
    def message(self) -> str:
        """What is wrong, one line for each; or how near the outputs are."""
        short = [output for output in self.outputs if not output.passed]
        lines = [*self.problems, *(f"{output.name}: {numbers(output)}" for output in short or self.outputs)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{self.message}>"


@dataclass(frozen=True, slots=True, repr=False)
class Ran(Report, Answer):
    """The judged report of a run. ``exit_code`` is what ``harness run`` would have left with."""

    exit_code: int = 2

    @property
    def passed(self) -> bool:
        """True where every check is as expected, and something was compared."""
        return self.exit_code == 0

    @property
    def message(self) -> str:
        """The verdict, then one line for each check that is not as expected."""
        return "\n".join([verdict(self), *map(told, wrong(self.results))])

    def __repr__(self) -> str:
        return f"<{verdict(self)}>"


def told(result: Result) -> str:
    """One check in one line: where, what it came to, by how much, and whose fault it is."""
    comparison = telling(result)
    how = explanation(result) if comparison is None or comparison.passed else numbers(comparison)
    blame = f" (blame: {result.blame})" if result.blame else ""
    return f"{result.target}: {outcome(result)}{blame}: {how}"


class Unwatched:
    """Nobody looks on while checks run."""

    def begin(self, total: int, what: str = "checks") -> None:
        """See :class:`harness.pipeline.Watcher`."""

    def advance(self, result: Result | None = None) -> None:
        """See :class:`harness.pipeline.Watcher`."""

    def end(self) -> None:
        """See :class:`harness.pipeline.Watcher`."""


def run(
    paths: str | Path | Sequence[str | Path],
    *,
    targets: str | Sequence[str],
    keywords: str | Sequence[str],
    workers: int,
    report_dir: str | Path | None,
    formats: Sequence[str],
    known_failures: str | Path | None,
    require: str | Sequence[str],
    latency: bool,
    timeout: float | Literal["by size"] | None,
    allow_import: bool,
) -> Ran:
    """See :func:`harness.api.run`. Raises ``KeyboardInterrupt`` where somebody stopped it."""
    request = Request(
        paths=_several(paths),
        targets=_several(targets),
        keywords=_several(keywords),
        workers=workers,
        formats=tuple(formats),
        known_failures=None if known_failures is None else Path(known_failures),
        require=_several(require),
        allow_import=allow_import,
        settings=_settings(timeout, latency=latency),
    )
    outcome = _outcome(request, report_dir)
    report = outcome.report
    if report.run["interrupted"]:
        raise KeyboardInterrupt
    return Ran(report.environment, report.results, report.run, outcome.exit_code)


def _outcome(request: Request, report_dir: str | Path | None) -> Outcome:
    if report_dir is not None:
        return carry_out(replace(request, report_dir=Path(report_dir)), Unwatched())
    with temporary_folder() as folder:
        return carry_out(replace(request, report_dir=folder, formats=()), Unwatched())


def _settings(timeout: float | Literal["by size"] | None, *, latency: bool) -> Settings:
    asked = Settings(timeout=None, latency=latency, cache=cache_folder())
    return asked if timeout is None else with_time_limit(asked, None if timeout == "by size" else timeout)


def _several(given: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """One word, or several, as several."""
    return (str(given),) if isinstance(given, str | Path) else tuple(map(str, given))


Array = NDArray[Any]


def compare(actual: Any, expected: Any, tolerance: Any) -> Compared:
    """See :func:`harness.api.compare`."""
    asked = unscaled(tolerance)
    given, meant = arrays(actual), arrays(expected)
    ordinary = {
        index: default_tolerance(None, {}, values.dtype.name, None).rule for index, values in enumerate(meant.values())
    }
    found = hold(
        given, meant, Tolerance(asked.rule or Exact(), {**(ordinary if asked.rule is None else {}), **asked.by_output})
    )
    return Compared(found.outputs, found.problems)


def arrays(given: Any) -> dict[str, Array]:
    """Outputs by name: one array or tensor, several by order, or several by name. Raises :class:`UsageError`."""
    if isinstance(given, Mapping):
        return {str(name): _array(value) for name, value in given.items()}
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return {f"output_{index}": _array(value) for index, value in enumerate(given)}
    return {"output_0": _array(given)}


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach"):
        from harness.model.tensors import to_numpy

        return to_numpy(value)
    raise UsageError(f"outputs: {type(value).__name__} is not an array; give NumPy arrays or tensors")


def verify(
    module: Any,
    inputs: Any,
    targets: str | Sequence[str],
    *,
    tolerance: Any,
    dynamic: Mapping[str, Mapping[int, str]] | None,
    also: Sequence[Any],
) -> Verified:
    """See :func:`harness.api.verify`."""
    from harness.check.in_memory import check_given
    from harness.check.refusal import check_opsets

    chosen = _targets(targets)
    check_opsets(chosen)
    results = check_given(module, [inputs, *also], chosen, unscaled(tolerance), dynamic or {})
    return Verified(tuple(expected(result, ()) for result in results))


def _targets(words: str | Sequence[str]) -> tuple[Target, ...]:
    """The targets that ``words`` name, as on the command line where there is no ``targets.yaml``."""
    sets = TargetSets({name: tuple(map(parse_target, targets)) for name, targets in BUILT_IN.items()})
    chosen = sets.select((words,) if isinstance(words, str) else tuple(words))
    for target in chosen:
        if target.exporter == FILE:
            raise UsageError(f"targets: {target} takes a file; name an exporter, such as onnx-dynamo@23/ort-cpu")
    return chosen
