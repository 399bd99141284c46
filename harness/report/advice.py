"""What to do next about one check: one sentence for each way in which a check can end badly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from harness.errors import path_of
from harness.report.machines import without_machine
from harness.report.shell import command_line, explain_words
from harness.report.wording import number, telling
from harness.result import Blame, Result, Symptom
from harness.spec.target import FILE

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
