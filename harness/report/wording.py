"""A case's id taken apart: ``pooling/avgpool2d/windows[args.kernel_size=2,args.ceil_mode=true]``.

The sentences and numbers that every format says alike, so that no two reports of one run differ in words.

What to do next about one check: one sentence for each way in which a check can end badly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from harness.errors import path_of
from harness.report.machines import without_machine
from harness.report.shell import command_line, explain_words
from harness.result import Blame, OutputComparison, Report, Result, Status, Symptom
from harness.spec.targets import FILE


@dataclass(frozen=True, slots=True)
class CaseName:
    """``spec``: the file, below the specs' root. ``family``: the case's name in it. ``point``: its matrix point."""

    spec: str
    family: str
    point: tuple[str, ...] = ()

    @classmethod
    def parse(cls, case: str) -> CaseName:
        """Take a case's id apart; an id without a folder has an empty ``spec``."""
        path, bracket, point = case.partition("[")
        spec, _, family = path.rpartition("/")
        return cls(spec, family, _settings(point.removesuffix("]")) if bracket else ())

    @property
    def short(self) -> str:
        """The id without the spec's path, for where that stands above."""
        return self.family + (f"[{','.join(self.point)}]" if self.point else "")


def _settings(point: str) -> tuple[str, ...]:
    """``a=1,b=[2, 3]`` at its outer commas: a value may hold commas of its own in brackets."""
    settings, depth = [""], 0
    for char in point:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and depth == 0:
            settings.append("")
        else:
            settings[-1] += char
    return tuple(settings)


WRONG: frozenset[Status] = frozenset({"failed", "error", "fixed"})
"""The statuses that are not as expected: any of them makes the exit code 1."""


def wrong(results: Sequence[Result]) -> list[Result]:
    """The checks that are not as expected, in the report's order."""
    return [result for result in results if result.status in WRONG]


def verdict(report: Report) -> str:
    """The whole run in one sentence.

    ``report.run["complaints"]``, where the caller left any, are why the run as a whole cannot be
    relied on (see :class:`harness.gate.Judged`), and ``report.run["interrupted"]`` that it was not
    finished; both come before every count.
    """
    counts = report.summary
    tally = ", ".join(f"{counts[status]:,} {status}" for status in counts if status != "checks" and counts[status])
    checks = _count(counts["checks"], "check")
    if complaints := report.run.get("complaints", ()):
        return f"No verdict: {one_line(str(complaints[0]))} ({checks}: {tally or 'none done'})."
    if report.run.get("interrupted"):
        by = f" by {name}" if (name := report.run.get("interrupted_by")) else ""
        left = f"No verdict: the run was interrupted{by} after {checks} ({tally or 'none done'})"
        return f"{left}; the same command with --resume goes on."
    if not counts["checks"]:
        return "No verdict: there was nothing to verify."
    if counts["skipped"] == counts["checks"]:
        return f"No verdict: nothing was compared, all of {checks} skipped."
    if bad := sum(counts[status] for status in WRONG):
        return f"Not as expected: {bad:,} of {checks} ({tally})."
    return f"All as expected: {checks} ({tally})."


def exports(report: Report) -> str | None:
    """How many files were exported for the run, and how many came from the cache; None where neither was so."""
    counts = report.run.get("exports") or {}
    made, reused = counts.get("made", 0), counts.get("from_cache", 0)
    return f"{_count(made, 'export')} made, {reused:,} from the cache" if made or reused else None


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def happened(result: Result) -> str:
    """Where and how a check ended: ``export: unsupported``; empty where there is nothing to say."""
    return ": ".join(part for part in (result.stage, result.symptom) if part)


def comparisons(result: Result) -> Iterator[tuple[str, OutputComparison]]:
    """Every comparison of a check with its label: its outputs, then those that its findings rest on."""
    for output in result.outputs:
        yield _label(output), output
    for finding in result.findings:
        if finding.comparison is not None:
            yield f"{finding.what}: {_label(finding.comparison)}", finding.comparison


def _label(output: OutputComparison) -> str:
    return f"{output.index} {output.name}".strip() + (f" at {output.at}" if output.at else "")


def telling(result: Result) -> OutputComparison | None:
    """The comparison that tells most: the first that did not pass, else the one furthest from its reference."""
    held = [comparison for _, comparison in comparisons(result)]
    failed = [comparison for comparison in held if not comparison.passed]
    return failed[0] if failed else max(held, key=lambda comparison: comparison.max_ulp or 0, default=None)


def number(value: float | None) -> str:
    """A figure short enough to read: whole numbers grouped, others to three digits, ``-`` where there is none."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def value_at(value: float | None) -> str:
    """One element of a tensor, to every digit that float32 holds."""
    return "-" if value is None else f"{value:.9g}"


def index(position: tuple[int, ...] | None) -> str:
    """An element's index, as it is typed after the tensor's name."""
    return "-" if position is None else str(list(position))


def numbers(comparison: OutputComparison) -> str:
    """How far apart, on one line: how many, by how much, where it is worst, what would have passed."""
    parts = [f"{comparison.mismatched:,} of {comparison.of:,} outside {comparison.tolerance}"]
    if not comparison.mismatched:
        parts = [one_line(comparison.problem)] if comparison.problem else [f"within {comparison.tolerance}"]
    sizes = (("abs", comparison.max_abs), ("rel", comparison.max_rel), ("ulp", comparison.max_ulp))
    if known := " / ".join(f"{number(size)} {unit}" for unit, size in sizes if size is not None):
        parts.append(f"max {known}")
    if comparison.worst is not None:
        got, meant = value_at(comparison.actual_at_worst), value_at(comparison.expected_at_worst)
        parts.append(f"worst {index(comparison.worst)}: {got} for {meant}")
    if comparison.at:
        parts.append(f"at {one_line(comparison.at)}")
    return ", ".join(parts)


def outcome(result: Result) -> str:
    """What a check came to, on one line: its status, then where and how."""
    return ", ".join(part for part in (result.status, happened(result)) if part)


def explanation(result: Result) -> str:
    """Why a check ended as it did, on one line: its own message, or the first thing that did not hold."""
    if result.message:
        return one_line(result.message)
    broken = [finding.message for finding in result.findings if not finding.passed]
    broken += [output.problem for output in result.outputs if output.problem]
    return one_line(broken[0]) if broken else ""


def blindness(result: Result) -> str:
    """Why a pass proves little, on one line; empty where its tolerance could have seen an error."""
    told = [output.blind for output in result.outputs if output.blind] if result.status == "passed" else []
    return one_line(told[0]) if told else ""


def one_line(text: str) -> str:
    """``text`` with every run of blanks and line ends made one blank."""
    return " ".join(text.split())


def shortened(text: str, length: int) -> str:
    """``text`` on one line, cut at ``length`` characters; the whole of it stands in report.json."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 3]}..."


def printable(text: str) -> str:
    """``text`` without what a terminal or an XML reader would take for more than text: controls, lone surrogates."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


_BY_BLAME: Mapping[Blame | Symptom, str] = {
    "exporter": "The exported file is already wrong: try the exporter's `+fixes` target or another opset, "
    "and get a script for the upstream issue",
    "optimizer": "The runtime's graph optimizer changes the answer: switch graph optimization off, "
    "and get a script for the upstream issue",
    "kernel": "The file is right and the runtime computes something else: find the operator, "
    "and try another opset or runtime",
    "rounding": "The values differ by rounding alone: if {least} is close enough for this model, "
    "say so under `tolerance` in the spec",
    "torch": "Eager torch itself is further from the definition than the target: "
    "try another version of torch before mending the export",
    "spec": "The spec expects what the layer does not do: correct `expect` where the case is written",
}

_BY_SYMPTOM: Mapping[Blame | Symptom, str] = {
    "mismatch": "Find the first node that differs",
    "exception": "Read the message and the log, then repeat this check alone",
    "crash": "The process died: repeat this check alone, and report it upstream with the script",
    "timeout": "Give it longer with `--timeout`, or find out where it stays",
    "out-of-memory": "Make the case's shapes smaller, or run fewer checks at once (`-j 1`)",
    "unsupported": "Take another opset, or the exporter's `+fixes` target; "
    "where neither does it, list it in `known-failures.yaml` with a reason",
    "unavailable": "Install what the message names; `harness doctor` lists what this machine has",
    "placement": "Nodes ran outside the asked provider: take a build or an opset whose provider has these operators, "
    "or allow it in the target (`?allow=cpu`)",
}

_OF_FILES: Mapping[Blame | Symptom, str] = {
    "spec": "What was recorded is not what the file computes: one of the two has changed since, record the answer anew",
    "unsupported": "Take another runtime, or a model of another opset; "
    "where none does it, list it in `known-failures.yaml` with a reason",
}
"""What is said otherwise where the model is a file that nobody exported here."""

_PLACE = re.compile(r"(:\d+)+$")
"""The line and the column at the end of a place in a file."""

_EXPLAINABLE: frozenset[Symptom] = frozenset({"mismatch", "exception", "crash", "timeout", "placement"})


@dataclass(frozen=True, slots=True)
class Advice:
    """``sentence`` is Markdown without a full stop; ``words``, where there are any, are a command and its arguments."""

    sentence: str
    words: tuple[str, ...] = ()

    @property
    def command(self) -> str | None:
        """The command as it can be pasted into a shell."""
        return command_line(self.words) if self.words else None


def next_step(result: Result, *, allow_import: bool = False, bundle: str | None = None) -> Advice | None:
    """What to do about ``result``; None where there is nothing to do.

    ``allow_import`` is True where the run was allowed to run the specs' own code, which its command then says again.
    ``bundle`` is the folder of the bundle that was run, if one was: what it was packed from need not be here.
    """
    match result.status:
        case "passed" | "known":
            return None
        case "fixed":
            return Advice(
                "Take this check out of `known-failures.yaml`: remove the entry, or narrow its globs or its `when`"
            )
        case _:
            return _mend(result, allow_import=allow_import, bundle=bundle)


def _mend(result: Result, *, allow_import: bool, bundle: str | None) -> Advice:
    symptom = result.symptom or ("mismatch" if result.status == "failed" else "exception")
    sentences = {**_BY_SYMPTOM, **_BY_BLAME}
    if result.target.startswith(f"{FILE}/"):
        sentences |= _OF_FILES
    why = result.blame if symptom == "mismatch" and result.blame else symptom
    sentence = sentences[why].format(least=_least(result))
    explainable = symptom in _EXPLAINABLE
    return Advice(sentence, _explain(result, allow_import=allow_import, bundle=bundle) if explainable else ())


def bundle_of(run: Mapping[str, Any]) -> str | None:
    """The folder of the bundle that a run was of, by what its report says of it; None where it was of none."""
    paths = list(run.get("paths", ()))
    return str(paths[0]) if run.get("bundle") and len(paths) == 1 else None


def explain_command(result: Result, *, allow_import: bool = False) -> str:
    """The command that explains this check, from the folder in which the run was started.

    It names the folder in which the case has its id, unless that is ``specs``, which is where explain looks by itself.
    """
    return command_line(_explain(result, allow_import=allow_import, bundle=None))


def _explain(result: Result, *, allow_import: bool, bundle: str | None) -> tuple[str, ...]:
    folder = bundle or _folder(result)
    named = None if folder in {None, "specs"} else folder
    return explain_words(result.case, without_machine(result.target), named, allow_import=allow_import)


def _folder(result: Result) -> str | None:
    """What is left of the file's path without the part that the case's id repeats; None where it repeats none."""
    if result.where is None:
        return None
    file = PurePath(_PLACE.sub("", result.where))
    named = file.parent if result.target.startswith(f"{FILE}/") else file.with_suffix("")
    for folder in reversed(named.parents):
        if f"{result.case}/".startswith(f"{named.relative_to(folder).as_posix()}/"):
            return path_of(str(folder))
    return None


def _least(result: Result) -> str:
    """The tolerance that would have passed, as a spec would say it."""
    comparison = telling(result)
    if comparison is None or comparison.least_atol is None:
        return "the difference shown"
    return f"atol {number(comparison.least_atol)} (or rtol {number(comparison.least_rtol)})"
