"""The committed report on ONNX's own backend tests: what passes, what does not and why, and all names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

Row = Mapping[str, Any]

HEAD = """# ONNX's own backend tests

Every test that onnx {onnx} ships or generates for backends, as a recorded model, on ONNX Runtime {onnxruntime} (CPU)
and on onnx's own evaluator. Made by `python -m benchmarks.real_material`. Outputs are compared under ONNX's own rule
(rtol 1e-3, atol 1e-7, bfloat16 rtol 2^-6; integers, text and structure exactly).

**{tests} tests, {checks} checks: {passed} pass, {unsupported} are refused as unsupported, {stopped} stop with another
error, {disagree} disagree.** {expected}
"""
EXPECTED = "The checks that do not pass are listed and explained below."
UNEXPECTED = "**{count} checks are not explained by the lists in `benchmarks/onnx_backend`.**"


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report on one run, from its ``report.json``."""
    rows: Sequence[Row] = report["results"]
    ways = Counter(_way(row) for row in rows)
    unexplained = sum(row["status"] not in {"passed", "known"} for row in rows)
    head = HEAD.format(
        **report["environment"]["packages"],
        tests=len({row["case"] for row in rows}),
        checks=len(rows),
        passed=ways["passes"],
        unsupported=ways["unsupported"],
        stopped=ways["stops"],
        disagree=ways["disagrees"],
        expected=UNEXPECTED.format(count=unexplained) if unexplained else EXPECTED,
    )
    parts = [head, "## By kind", _by_kind(rows), "## What does not pass, and why", _reasons(rows)]
    parts += ["## The disagreements", _disagreements(rows)]
    parts += ["## Objections of `onnx.checker`", _objections(rows), "## Every test", *_every_test(rows)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _way(row: Row) -> str:
    """Return how a check ended, expected or not."""
    if row["status"] == "passed":
        return "passes"
    if row["symptom"] == "unsupported":
        return "unsupported"
    return "disagrees" if row["stage"] == "compare" else "stops"


def _by_kind(rows: Sequence[Row]) -> str:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["case"].partition("/")[0], row["target"]][_way(row)] += 1
    ways = ("passes", "unsupported", "stops", "disagrees")
    lines = [(kind, f"`{target}`", *(count[way] for way in ways)) for (kind, target), count in counts.items()]
    return tabulate(lines, ("kind", "target", *ways), tablefmt="github")


def _reasons(rows: Sequence[Row]) -> str:
    """One line per reason: the target, the stage, and the tests."""
    failing: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["status"] != "passed":
            why = row["reason"] or f"**not explained**: {row['message']}"
            why += f" ([issue]({row['issue']}))" if row["issue"] else ""
            where = f"{row['stage']}: {row['symptom']}"
            failing[row["target"], where, _cell(why)].append(row["case"])
    lines = [
        (f"`{target}`", where, len(cases), why, ", ".join(f"`{_bare(case)}`" for case in cases))
        for (target, where, why), cases in sorted(failing.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]
    return tabulate(lines, ("target", "ends at", "tests", "why", "which"), tablefmt="github")


def _disagreements(rows: Sequence[Row]) -> str:
    lines = [
        (f"`{_bare(row['case'])}`", f"`{row['target']}`", row["blame"] or "nobody", _cell(row["message"]))
        for row in rows
        if _way(row) == "disagrees"
    ]
    legend = (
        "`kernel`: the file, evaluated in float64 and in its own dtypes, gives the recorded output, so the runtime "
        "computes something else. `rounding`: the output is as close to float64 as the recorded one. `nobody`: no "
        "evaluation can decide, or the evaluator is the target itself."
    )
    return f"{legend}\n\n" + tabulate(lines, ("test", "target", "blame", "numbers"), tablefmt="github")


def _objections(rows: Sequence[Row]) -> str:
    objections = {_bare(row["case"]): _cell(row["checker"]) for row in rows if row["checker"]}
    lines = [(f"`{case}`", objection) for case, objection in objections.items()]
    return tabulate(lines, ("test", "objection"), tablefmt="github") if lines else "Nothing."


def _every_test(rows: Sequence[Row]) -> Iterator[str]:
    """The names by kind, with the outcomes of the checks that do not pass."""
    ways: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        ways[row["case"]][row["target"].rpartition("/")[2]] = _way(row)
    by_kind: dict[str, list[str]] = defaultdict(list)
    for case, outcomes in ways.items():
        other = ", ".join(f"{runtime} {way}" for runtime, way in outcomes.items() if way != "passes")
        by_kind[case.partition("/")[0]].append(f"{_bare(case)} ({other})" if other else _bare(case))
    for kind, names in by_kind.items():
        yield f"<details><summary>{kind}: {len(names)} tests; tests without a note pass on both targets</summary>\n"
        yield f"{', '.join(sorted(names))}\n\n</details>"


def _bare(case: str) -> str:
    return case.rpartition("/")[2].removeprefix("test_")


def _cell(text: str) -> str:
    """``text`` on one line, escaped for a table's cell."""
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= 300 else f"{line[:297]}..."
