"""Sentences, numbers and advice that every report format shares, so that the formats of one run never differ in words.

Numbers for people have at most four significant digits; ``report.json`` has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.deprecated import accept_old_names
from harness.errors import one_line
from harness.report.machines import without_machine
from harness.report.shell import command_line, deciding_options, explain_words, given_path, specs_folder
from harness.result import QUANTIZED_WEIGHTS, Blame, Finding, OutputComparison, Report, Result, Status, Symptom
from harness.spec.quoting import count_of
from harness.spec.targets import FILE, TESTED_FILE

UNEXPECTED: frozenset[Status] = frozenset({"failed", "error", "fixed"})
"""The statuses that are not as expected: any of them makes the exit code 1."""
_GIVEN = (f"{FILE}/", TESTED_FILE)  # how the targets of files that were not exported here begin


@dataclass(frozen=True, slots=True)
class CaseName:
    """The parts of a case's id, such as ``pooling/avgpool2d/windows[args.kernel_size=2,args.ceil_mode=true]``.

    ``spec`` is the path of the spec file without its suffix, relative to the root of the specs. ``family`` is the
    case's name in that file. ``point`` is its matrix point, one string per setting.
    """

    spec: str
    family: str
    point: tuple[str, ...] = ()

    @classmethod
    def parse(cls, case: str) -> CaseName:
        """Split a case's id. ``spec`` is empty if the id has no folder."""
        path, bracket, point = case.partition("[")
        spec, _, family = path.rpartition("/")
        return cls(spec, family, split_settings(point.removesuffix("]")) if bracket else ())

    @property
    def short(self) -> str:
        """The id without the path of the spec, for places that show the spec already."""
        return self.family + (f"[{','.join(self.point)}]" if self.point else "")


def split_settings(point: str) -> tuple[str, ...]:
    """The settings of ``a=1,b=[2, 3]``: split at its outer commas, because a value may contain commas in brackets."""
    settings, depth = [""], 0
    for char in point:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and depth == 0:
            settings.append("")
        else:
            settings[-1] += char
    return tuple(settings)


# A run


def unexpected(results: Sequence[Result]) -> list[Result]:
    """The checks that are not as expected, in the report's order."""
    return [result for result in results if result.status in UNEXPECTED]


def verdict(report: Report) -> str:
    """The result of the whole run in one sentence.

    ``report.run["complaints"]``, if any, say why the run cannot be relied on (see :class:`harness.gate.GateOutcome`).
    ``report.run["interrupted"]`` says that the run was not finished. Both come before every count.
    """
    counts = report.summary
    tally = ", ".join(f"{counts[status]:,} {status}" for status in counts if status != "checks" and counts[status])
    checks = count_of(counts["checks"], "check")
    if complaints := report.run.get("complaints", ()):
        return f"No verdict: {one_line(str(complaints[0]))} ({checks}: {tally or 'none done'})."
    if report.run.get("interrupted"):
        by = f" by {name}" if (name := report.run.get("interrupted_by")) else ""
        left = f"No verdict: the run was interrupted{by} after {checks} ({tally or 'none done'})"
        return f"{left}; continue it with the same command and --resume."
    if not counts["checks"]:
        return "No verdict: there was nothing to verify."
    if counts["skipped"] == counts["checks"]:
        return f"No verdict: nothing was compared, {checks} skipped."
    if bad := sum(counts[status] for status in UNEXPECTED):
        left = (
            f" Stopped by --maxfail: {count_of(not_run, 'check')} not run."
            if (not_run := report.run.get("not_run"))
            else ""
        )
        return f"Not as expected: {bad:,} of {checks} ({tally}).{left}"
    return f"All as expected: {checks} ({tally})."


def export_counts(report: Report) -> str | None:
    """How many files the run exported and how many it took from the cache; None if there were neither."""
    counts = report.run.get("exports") or {}
    made, reused = counts.get("made", 0), counts.get("from_cache", 0)
    return f"{count_of(made, 'export')} made, {reused:,} from the cache" if made or reused else None


def bundle_folder(run: Mapping[str, Any]) -> str | None:
    """The folder of the bundle that was run, according to ``report.run``; None if the run was not of a bundle."""
    paths = list(run.get("paths", ()))
    return str(paths[0]) if run.get("bundle") and len(paths) == 1 else None


# A check


def stage_and_symptom(result: Result) -> str:
    """Where and how a check ended, such as ``export: unsupported``; empty if the result says neither."""
    return ": ".join(part for part in (result.stage, result.symptom) if part)


def outcome(result: Result) -> str:
    """The status, stage and symptom of a check on one line."""
    return ", ".join(part for part in (result.status, stage_and_symptom(result)) if part)


def explanation(result: Result) -> str:
    """Why a check ended as it did, on one line: its message, or the first expectation or output that failed."""
    if result.message:
        return one_line(result.message)
    problems = [finding.message for finding in result.findings if not finding.passed]
    problems += [output.problem for output in result.outputs if output.problem]
    return one_line(problems[0]) if problems else ""


def inconclusive_reason(result: Result) -> str:
    """Why a pass is inconclusive, on one line; empty if its tolerance could have seen an error."""
    return one_line(result.inconclusive or "")


def blame_words(result: Result) -> str | None:
    """What to blame, in words: where the file was given, it is the file itself, whatever made it."""
    return "the file" if result.blame == "exporter" and result.target.startswith(_GIVEN) else result.blame


def comparisons(result: Result) -> Iterator[tuple[str, OutputComparison]]:
    """Every comparison of a check with its label: first the outputs, then those of its expectations."""
    for output in result.outputs:
        yield _label(output), output
    for finding in result.findings:
        if finding.comparison is not None:
            yield f"{expectation_name(finding)}: {_label(finding.comparison)}", finding.comparison


def expectation_name(finding: Finding) -> str:
    """The key under ``expect`` that ``finding`` belongs to, or what else is judged beside the outputs."""
    beside = finding.what in {"float64_reference", QUANTIZED_WEIGHTS}
    return finding.what.replace("_", " ") if beside else finding.what


def _label(output: OutputComparison) -> str:
    return f"{output.index} {output.name}".strip() + (f" at {output.at}" if output.at else "")


def main_comparison(result: Result) -> OutputComparison | None:
    """The comparison to show if there is room for one: the first that failed, else the one with the largest error."""
    every = [comparison for _, comparison in comparisons(result)]
    failed = [comparison for comparison in every if not comparison.passed]
    return failed[0] if failed else max(every, key=lambda comparison: comparison.max_ulp or 0, default=None)


def comparison_line(comparison: OutputComparison) -> str:
    """One line about a comparison: its problem, or how near the values are if it passed."""
    if comparison.problem:
        parts = [one_line(comparison.problem)]
    else:
        parts = [f"within the tolerance ({comparison.tolerance})", _largest_errors(comparison)]
        if comparison.worst is not None:
            actual, expected = format_pair(comparison.actual_at_worst, comparison.expected_at_worst)
            parts.append(f"worst at {format_index(comparison.worst)}: {actual}, expected {expected}")
    parts.append(f"at {one_line(comparison.at)}" if comparison.at else "")
    return "; ".join(filter(None, parts))


def is_explained_by(result: Result, comparison: OutputComparison) -> bool:
    """Whether the explanation of ``result`` contains the problem of ``comparison`` already."""
    return comparison.problem is not None and one_line(comparison.problem) in explanation(result)


def _largest_errors(comparison: OutputComparison) -> str:
    errors = (("abs", comparison.max_abs), ("rel", comparison.max_rel), ("ulp", comparison.max_ulp))
    known = " / ".join(f"{format_number(error)} {unit}" for unit, error in errors if error is not None)
    return known and f"largest error {known}"


# Numbers


def format_number(value: float | None) -> str:
    """A number that is short enough to read: integers grouped, others with three significant digits, None as ``-``."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def format_microseconds(us: float) -> str:
    """A duration with three significant digits, in us, ms or s."""
    for limit, scale, unit in ((999.5, 1.0, "us"), (999.5e3, 1e3, "ms")):
        if us < limit:  # what is rounded to 1,000 has the next unit
            return f"{us / scale:.3g} {unit}"
    return f"{us / 1e6:.3g} s"


def format_duration(seconds: float) -> str:
    """About how long something takes: ``40 s``, ``3 min`` or ``1.5 h``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_pair(actual: float | None, expected: float | None) -> tuple[str, str]:
    """Two elements of a tensor with four significant digits, or with as many more as it takes to tell them apart."""
    texts = ("-", "-")
    for digits in range(4, 18):
        texts = format_element(actual, digits), format_element(expected, digits)
        if actual == expected or texts[0] != texts[1]:
            break
    return texts


def format_element(value: float | None, digits: int = 9) -> str:
    """One element of a tensor; 9 significant digits distinguish all values of float32. None as ``-``."""
    return "-" if value is None else f"{value:.{digits}g}"


def format_index(position: tuple[int, ...] | None) -> str:
    """The index of an element, as one types it after the tensor's name."""
    return "-" if position is None else str(list(position))


def format_decisions(decisions: Mapping[str, Any] | None) -> str | None:
    """How many decisions agree, and how many are ties; None if none were counted."""
    if decisions is None:
        return None
    ties = f", {decisions['ties']:,} ties" if decisions["ties"] else ""
    return f"{decisions['agree']:,} of {decisions['of']:,} agree{ties}"


# What to do next

_BY_BLAME: Mapping[Blame | Symptom, str] = {
    "exporter": "The exported file is wrong: try the exporter's `+fixes` target or another opset, "
    "and get a script for the upstream issue",
    "optimizer": "The runtime's graph optimizer changes the result: turn graph optimization off, "
    "and get a script for the upstream issue",
    "kernel": "The file is right and the runtime computes something else: find the operator, "
    "and try another opset or runtime",
    "rounding": "The values differ by rounding only: if {least} is accurate enough for this model, "
    "set it as `tolerance` in the spec",
    "torch": "Eager torch is further from the float64 reference than the target: "
    "try another version of torch before you change the export",
    "spec": "The spec expects what the layer does not do: correct `expect` in the spec",
}

_BY_SYMPTOM: Mapping[Blame | Symptom, str] = {
    "mismatch": "Find the first node that differs",
    "exception": "Read the message and the log, then repeat this check alone",
    "crash": "The process died: repeat this check alone, and report it upstream with the script",
    "timeout": "Set a longer limit with `--timeout`, or find out where it hangs",
    "out-of-memory": "Make the shapes of the case smaller, or run fewer checks at once (`-j 1`)",
    "unsupported": "Use another opset, or the exporter's `+fixes` target; "
    "if neither supports it, list it in `known-failures.yaml` with a reason",
    "unavailable": "Install what the message names; `harness doctor` lists what this machine has",
    "placement": "Nodes ran outside the requested provider: use a build or an opset whose provider has these "
    "operators, or allow it in the target (`?allow=cpu`)",
}

_FOR_FILES: Mapping[Blame | Symptom, str] = {
    "spec": "The recorded outputs are not what the file computes: one of the two has changed, so record them again",
    "exporter": "The file itself is wrong: find the layer, the node or the weight, or export the model again",
    "unsupported": "Use another runtime, or a model of another opset; "
    "if none supports it, list it in `known-failures.yaml` with a reason",
}
"""Replaces the sentences above for a file that was not exported here."""
_EXPLAINABLE: frozenset[Symptom] = frozenset({"mismatch", "exception", "crash", "timeout", "placement"})


@dataclass(frozen=True, slots=True)
class Advice:
    """``sentence`` is Markdown without a full stop. ``words``, if any, are a command and its arguments."""

    sentence: str
    words: tuple[str, ...] = ()

    @property
    def command(self) -> str | None:
        """The command, ready to paste into a shell."""
        return command_line(self.words) if self.words else None


def next_step(result: Result, run: Mapping[str, Any] | None = None) -> Advice | None:
    """What to do about ``result``; None if there is nothing to do.

    ``run`` is that part of its report. The command names the path that was run, since a folder above it may hold other
    specs, and those that a bundle was packed from may not be on this machine. It repeats the options that decide.
    """
    match result.status:
        case "passed" | "known":
            return None
        case "fixed":
            return Advice(
                "Remove this check from `known-failures.yaml`: delete the entry, or narrow its globs or its `when`"
            )
        case _:
            return _advice_for_failure(result, run or {})


def _advice_for_failure(result: Result, run: Mapping[str, Any]) -> Advice:
    symptom = result.symptom or ("mismatch" if result.status == "failed" else "exception")
    sentences = {**_BY_SYMPTOM, **_BY_BLAME}
    if result.target.startswith(_GIVEN):
        sentences |= _FOR_FILES
    if result.target.startswith(TESTED_FILE):
        sentences["spec"] = _BY_BLAME["spec"]  # nothing was recorded
    cause = result.blame if symptom == "mismatch" and result.blame else symptom
    sentence = sentences[cause].format(least=_least_tolerance(result))
    explainable = symptom in _EXPLAINABLE and result.where != ""  # as a check without a spec has it
    return Advice(sentence, _explain_command(result, run) if explainable else ())


def _least_tolerance(result: Result) -> str:
    """The smallest tolerance that would have passed, as a spec writes it."""
    comparison = main_comparison(result)
    if comparison is None or comparison.least_atol is None:
        return "the difference shown"
    return f"atol {format_number(comparison.least_atol)} (or rtol {format_number(comparison.least_rtol)})"


def _explain_command(result: Result, run: Mapping[str, Any]) -> tuple[str, ...]:
    place = bundle_folder(run) or given_path(result, list(map(str, run.get("paths", ())))) or specs_folder(result)
    argument = None if place in {None, "specs", "specs/"} else place
    return explain_words(result.case, without_machine(result.target), argument, deciding_options(run))


accept_old_names(__name__)
