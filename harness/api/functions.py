"""The implementation of the Python API: ``run``, ``verify`` and ``compare``, and the results that they return.

Each result says whether it passed and why not, and can be asserted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from harness.api.arguments import arrays, errors_about_arguments, number, plain, whole_numbers
from harness.check.settings import Settings, cache_folder, with_time_limit
from harness.compare.calibrated import plain_rule
from harness.compare.inconclusive import training_line, training_words
from harness.compare.verdict import compare as compare_outputs
from harness.engine.processes.temporary import temporary_folder
from harness.errors import UsageError
from harness.gate import final_result, no_layer_compared
from harness.pipeline import Outcome, Request
from harness.pipeline import run as run_pipeline
from harness.plan import Shard
from harness.report import chosen_formats
from harness.report.diff.start import gated_figures
from harness.report.wording import comparison_line, explanation, main_comparison, outcome, unexpected, verdict
from harness.result import OutputComparison, Report, Result
from harness.spec.language.tolerances import Calibrated, CaseTolerance, Exact, Scaled, Tolerance, parse_tolerance
from harness.spec.targets import FILE, Target, parse_target
from harness.spec.targets.sets import BUILT_IN_SETS, TargetSets

# Results


class Assertable:
    """A result that passed or did not. It is true if it passed, so that ``assert harness.verify(...)`` works."""

    __slots__ = ()

    @property
    def passed(self) -> bool:
        """True if everything is as it should be."""
        raise NotImplementedError

    @property
    def message(self) -> str:
        """The problems, one per line, or a line that says that there are none."""
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
class Verified(Assertable):
    """The result of :func:`harness.verify`: a :class:`harness.result.Result` per target, in their order.

    With ``asked_layers``, it does not pass unless a layer was compared.
    """

    results: tuple[Result, ...]
    asked_layers: bool = False

    @property
    def passed(self) -> bool:
        """True if every target was verified and agrees. A target that is not available here was not verified."""
        agree = bool(self.results) and all(result.status == "passed" for result in self.results)
        return agree and not (self.asked_layers and no_layer_compared(self.results))

    @property
    def message(self) -> str:
        """One line per target that did not pass, or the targets that agree, with the reason of an inconclusive pass.

        A line before them says so if the module is in training mode and answers otherwise in evaluation mode.
        """
        failing = [result for result in self.results if result.status != "passed"]
        agreeing = (
            f"{each.target}{f' (inconclusive: {why})' if (why := each.inconclusive) else ''}" for each in self.results
        )
        without_layers = no_layer_compared(self.results) if self.asked_layers and not failing else ""
        message = "\n".join(map(_line, failing)) or without_layers or f"agrees on {', '.join(agreeing)}"
        words = next(filter(None, map(training_words, self.results)), None)
        return message if words is None else f"{words}:\n{message.replace(f'{words}: ', '')}"

    def __repr__(self) -> str:
        return f"<{self.message}>"


@dataclass(frozen=True, slots=True, repr=False)
class Compared(Assertable):
    """The result of :func:`harness.compare`: a comparison per output, and the problems of the outputs as a whole."""

    outputs: tuple[OutputComparison, ...]
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if something was compared and there is no problem."""
        return bool(self.outputs) and not self.problems and all(output.passed for output in self.outputs)

    @property
    def message(self) -> str:
        """The problems, one per line, or how near the outputs are."""
        failing = [output for output in self.outputs if not output.passed]
        lines = [f"{output.name}: {comparison_line(output)}" for output in failing or self.outputs]
        return "\n".join([*self.problems, *lines])

    def __repr__(self) -> str:
        return f"<{self.message}>"


@dataclass(frozen=True, slots=True, repr=False)
class Ran(Report, Assertable):
    """The result of :func:`harness.run`: the judged report, and the exit code that ``harness run`` would have."""

    exit_code: int = 2

    @property
    def passed(self) -> bool:
        """True if every check is as expected, and something was compared."""
        return self.exit_code == 0

    @property
    def message(self) -> str:
        """The verdict, then one line per check that is not as expected, with its case. Training mode is said first."""
        lines = (f"{result.case} on {_line(result)}" for result in unexpected(self.results))
        return "\n".join(filter(None, [training_line(self.results), verdict(self), *lines]))

    def __repr__(self) -> str:
        return f"<{verdict(self)}>"


def _line(result: Result) -> str:
    """One check on one line: target, outcome, blame, and numbers or explanation."""
    comparison = main_comparison(result)
    reason = explanation(result) if comparison is None or comparison.passed else comparison_line(comparison)
    blame = f" (blame: {result.blame})" if result.blame else ""
    return f"{result.target}: {outcome(result)}{blame}: {reason}"


# harness.run


def run(
    paths: str | Path | Sequence[str | Path],
    *,
    targets: str | Sequence[str],
    keywords: str | Sequence[str],
    shard: str | None,
    jobs: int | None,
    report_dir: str | Path | None,
    formats: str | Sequence[str],
    known_failures: str | Path | None,
    require: str | Sequence[str],
    baseline: str | Path | None,
    min_effect: float,
    gate: str | Sequence[str],
    latency: bool,
    layers: bool,
    timeout: float | Literal["by size"] | None,
    memory: int | None,
    strict: bool,
    strict_ulp: int | None,
    no_cache: bool,
    resume: bool,
    allow_import: bool,
    maxfail: int | None,
) -> Ran:
    """See :func:`harness.api.run`. Raises ``KeyboardInterrupt`` if the run was interrupted."""
    jobs, maxfail, memory = whole_numbers(1, jobs=jobs, maxfail=maxfail, memory=memory)
    (strict_ulp,) = whole_numbers(0, strict_ulp=strict_ulp)
    min_effect = number("min_effect", min_effect, 0)
    if timeout is not None and timeout != "by size":
        timeout = number("timeout", timeout, 0, above=True)
    cache = None if no_cache else cache_folder()
    settings = Settings(None, memory=memory, latency=latency, layers=layers, strict_ulp=strict_ulp, cache=cache)
    if timeout is not None:
        settings = with_time_limit(settings, None if timeout == "by size" else timeout)
    with errors_about_arguments():
        request = Request(
            paths=_as_tuple(paths),
            targets=_as_tuple(targets),
            keywords=_as_tuple(keywords),
            shard=None if shard is None else Shard.parse(shard),
            workers=jobs or 0,
            formats=_words(formats),
            known_failures=None if known_failures is None else Path(known_failures),
            require=_words(require),
            baseline=None if baseline is None else Path(baseline),
            min_effect=min_effect,
            gate=gated_figures(_words(gate)),
            resume=resume,
            allow_import=allow_import,
            strict=strict,
            maxfail=maxfail,
            settings=settings,
        )
        if not request.formats:
            raise UsageError("format: it names nothing; name one, or leave the argument out")
        chosen_formats(request.formats)
        outcome = _run(request, report_dir)
    report = outcome.report
    if report.run["interrupted"]:
        raise KeyboardInterrupt
    return Ran(report.environment, report.results, report.run, outcome.exit_code)


def _run(request: Request, report_dir: str | Path | None) -> Outcome:
    if report_dir is not None:
        return run_pipeline(replace(request, report_dir=Path(report_dir)), NoProgress())
    with temporary_folder() as folder:
        return run_pipeline(replace(request, report_dir=folder, formats=()), NoProgress())


class NoProgress:
    """A listener that ignores the progress of a run."""

    def begin(self, total: int, unit: str = "checks") -> None:
        """See :class:`harness.pipeline.ProgressListener`."""

    def advance(self, result: Result | None = None) -> None:
        """See :class:`harness.pipeline.ProgressListener`."""

    def end(self) -> None:
        """See :class:`harness.pipeline.ProgressListener`."""


def _as_tuple(words: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """One word or several, as a tuple."""
    return (str(words),) if isinstance(words, str | Path) else tuple(map(str, words))


def _words(lists: str | Sequence[str]) -> tuple[str, ...]:
    """The words of one comma-separated list or several."""
    return tuple(word.strip() for each in _as_tuple(lists) for word in each.split(",") if word.strip())


# harness.verify


def verify(
    module: Any,
    inputs: Any,
    targets: str | Sequence[str],
    *,
    tolerance: Any,
    dynamic: Mapping[str, Mapping[int, str]] | None,
    also: Sequence[Any],
    strict: bool,
    layers: bool,
) -> Verified:
    """See :func:`harness.api.verify`."""
    from harness.check.module.in_memory import check_module
    from harness.check.refusal import check_opsets

    with errors_about_arguments():
        selected = _targets(targets)
        check_opsets(selected)
    results = check_module(module, [inputs, *also], selected, unscaled(tolerance), plain(dynamic or {}), layers=layers)
    return Verified(tuple(final_result(result, (), strict=strict) for result in results), layers)


def _targets(words: str | Sequence[str]) -> tuple[Target, ...]:
    """The targets that ``words`` name, as on the command line without a ``targets.yaml``."""
    sets = TargetSets({name: tuple(map(parse_target, targets)) for name, targets in BUILT_IN_SETS.items()})
    selected = sets.select((words,) if isinstance(words, str) else tuple(words))
    for target in selected:
        if target.exporter == FILE:
            raise UsageError(f"targets: {target} takes a file; name an exporter, such as onnx-dynamo@23/ort-cpu")
    return selected


def unscaled(value: Any) -> CaseTolerance:
    """The tolerance ``value``, written as in a spec; the default tolerance if it is None.

    Raises :class:`UsageError` if it is invalid, and for ``scaled``: that needs the terms of the sums, which are
    unknown for a module of the user's or for bare arrays.
    """
    if value is None:
        return CaseTolerance()
    try:
        tolerance = parse_tolerance(plain(value))
    except PydanticCustomError as error:
        raise UsageError(f"tolerance: {error.message()}") from None
    if tolerance.has(Scaled):
        raise UsageError(
            "tolerance: scaled needs the terms of the sums, which are unknown here; use ulp, or rtol and atol"
        )
    return tolerance


# harness.compare_models


def compare_models(
    subject: Any, reference: Any, inputs: Any, targets: str | Sequence[str] | None, *, tolerance: Any, layers: bool
) -> Verified:
    """See :func:`harness.api.compare_models`."""
    from harness.check.files.in_memory import compare_in_memory

    words = [] if targets is None else [targets] if isinstance(targets, str) else list(targets)
    runtimes = [part.strip() for word in words for part in word.split(",") if part.strip()]
    results = compare_in_memory(subject, reference, inputs, runtimes, unscaled(tolerance), layers=layers)
    return Verified(tuple(final_result(result, ()) for result in results), layers)


# harness.compare


def compare(actual: Any, expected: Any, tolerance: Any) -> Compared:
    """See :func:`harness.api.compare`."""
    requested = unscaled(tolerance)
    if requested.has(Calibrated):
        raise UsageError("tolerance: calibrated needs a float64 reference, and there is none here; use rtol and atol")
    actual_arrays, expected_arrays = arrays(actual), arrays(expected)
    by_output = dict(requested.by_output)
    if requested.rule is None:
        for index, values in enumerate(expected_arrays.values()):
            by_output.setdefault(index, plain_rule(values.dtype.name))
    comparison = compare_outputs(actual_arrays, expected_arrays, Tolerance(requested.rule or Exact(), by_output))
    return Compared(comparison.outputs, comparison.problems)
