"""The machines behind a report: their facts as rows, and one report made of those of several machines or shards.

- :func:`environment_rows` lists the environment and the run; nested facts get dotted names.
- :func:`merge` joins the reports of the shards of one run, or of several machines, such as a host and a board.
- If several machines did the same check, each target gets the name of its machine (:func:`with_machine_names`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.deprecated import accept_old_names
from harness.errors import Location, Problem, SpecError, shortened
from harness.report.shell import command_line
from harness.result import NO_LAYER_COMPARED, Report, Result
from harness.spec.quoting import count_of, join_names

ON = " on "
"""Separates a target from its machine; a target itself has no blanks."""

# What distinguishes two machines. Load, frequency and free memory change from hour to hour on one machine.
_MACHINE_KEYS = ("board", "gpus", "packages", "os", "python")
_CPU_KEYS = ("model", "cores", "threads", "usable", "features")

# These parts of the run have their own places in a report.
_SHOWN_ELSEWHERE = ("run.complaints", "run.comparison", "run.unfinished", "run.missing_shards", "run.shards")

# Each part was compared with its baseline by itself; `harness diff` compares the whole.
_KEYS_OF_ONE_PART = ("baseline", "comparison")


def environment_rows(report: Report) -> Iterator[tuple[str, str]]:
    """The machine, the versions and the run as names and values in words, without the complaints and the comparison.

    The same by the names of ``report.json`` is in :func:`named_facts`.
    """
    for name, value in named_facts(report):
        if name not in _SHOWN_TWICE:
            unit = _UNITS.get(name.rpartition(".")[2], "")
            yield _label(name), shortened(_YES_NO.get(value, value), _MAX_VALUE) + (f" {unit}" if unit else "")


def named_facts(report: Report) -> Iterator[tuple[str, str]]:
    """The machine, the versions and the run by the names of ``report.json``, such as ``python`` and ``run.paths``."""
    rows = {**dict(flatten(report.environment)), **dict(flatten(report.run, "run."))}
    yield from ((name, value) for name, value in rows.items() if not name.startswith(_SHOWN_ELSEWHERE))


_MAX_VALUE = 200
_SHOWN_TWICE = frozenset({"packages.harness", "packages.python", "run.compared.harness", "run.compared.about"})
_YES_NO = {"True": "yes", "False": "no"}
_UNITS = {"memory_gib": "GiB", "mhz": "MHz", "max_mhz": "MHz", "seconds": "s", "budget_s": "s"}
_LABELS = {
    "os": "operating system",
    "machine": "architecture",
    "memory_gib": "memory",
    "onnxruntime_builds": "ONNX Runtime build",
    "python": "Python",
    "cpu.model": "CPU",
    "cpu.cores": "CPU cores",
    "cpu.threads": "CPU threads",
    "cpu.usable": "usable CPUs",
    "cpu.features": "CPU instruction sets",
    "cpu.governor": "CPU frequency governor",
    "cpu.mhz": "CPU frequency",
    "cpu.max_mhz": "highest CPU frequency",
    "run.paths": "specs",
    "run.targets": "targets",
    "run.keywords": "only (-k)",
    "run.unmatched_keywords": "-k that matches no case",
    "run.allow_import": "code of specs allowed",
    "run.layers": "each layer compared (--layers)",
    "run.strict": "inconclusive passes fail (--strict)",
    "run.strict_ulp": "tolerances limited to ULP (--strict-ulp)",
    "run.files": "spec files",
    "run.seconds": "duration",
    "run.began": "started",
    "run.interrupted_by": "interrupted by",
    "run.exports.made": "exports made",
    "run.exports.from_cache": "exports from the cache",
    "run.bench.budget_s": "bench: time per case and shape",
    "run.bench.processes": "bench: processes per case and shape",
    "run.bench.layers": "bench: layers too",
    "run.merged": "merged reports",
    "run.machines": "machines",
}
_PREFIXES = (
    (re.compile(r"also\.(\d+)\."), "machine {}: ", 2),
    (re.compile(r"gpus\.(\d+)\."), "GPU {} ", 1),
    (re.compile(r"run\.compared\.cases\.()\d+\."), "compared: ", 0),
    (re.compile(r"packages\.()|run\.()"), "", 0),
)


def _label(name: str) -> str:
    """A dotted name in words: ``cpu.model`` is the CPU, ``gpus.0.name`` the name of GPU 1."""
    if name in _LABELS:
        return _LABELS[name]
    for pattern, words, first in _PREFIXES:
        if found := pattern.match(name):
            return words.format(int(found[1] or 0) + first) + _label(name[found.end() :])
    return name.removeprefix("threads.") if name.startswith("threads.") else re.sub(r"[._]", " ", name)


def flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every fact as its dotted name and its value; facts that are None are left out."""
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _flatten_list(name, value)
        elif value is not None:
            yield name, str(value)


def _flatten_list(name: str, values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Plain values in one row; items with facts of their own, such as GPUs, numbered."""
    if any(isinstance(value, Mapping) for value in values):
        yield from flatten({str(number): value for number, value in enumerate(values)}, f"{name}.")
    elif values:
        yield name, ", ".join(map(str, values))


def merge(reports: Sequence[tuple[Path, Report]]) -> Report:
    """One report with every result once, in the order of ``reports``.

    If several machines did the same check, such as a host and a board, each target gets the name of its machine. The
    complaints name each run that was interrupted, and the shards that are missing.
    Raises :class:`SpecError` if two reports of one machine hold a check: which of them is right is unknown.
    """
    names, renamed = with_machine_names([report for _, report in reports])
    first: dict[tuple[str, str], Path] = {}
    merged: list[Result] = []
    problems: list[Problem] = []
    for (path, _), results in zip(reports, renamed, strict=True):
        if repeated := [result for result in results if (result.case, result.target) in first]:
            example = repeated[0]
            earlier = first[example.case, example.target]
            were = "was" if len(repeated) == 1 else "were"
            count = f"{len(repeated):,} of its {count_of(len(results), 'check')} {were} done on the same machine"
            compare = command_line(["harness", "diff", str(earlier), str(path)])
            message = f"{count} in {earlier} too, such as {example.case} on {without_machine(example.target)}"
            problems.append(Problem(Location(str(path), 0), message, f"to compare two runs: {compare}"))
        first = {(result.case, result.target): path for result in results} | first
        merged += results
    if problems:
        raise SpecError(problems)
    return Report(_environment(reports), tuple(merged), _run(reports) | ({"machines": list(names)} if names else {}))


def with_machine_names(reports: Sequence[Report]) -> tuple[tuple[str, ...], tuple[tuple[Result, ...], ...]]:
    """The names of the machines, and the results of each report with the machine's name in their targets.

    If no check was done on more than one machine, there are no names and the results are unchanged: the reports are
    shards then, or have targets that only one machine has.
    """
    machines: list[dict[str, Any]] = []
    for report in reports:
        if (one := machine_facts(report.environment)) not in machines:
            machines.append(one)
    numbers = [machines.index(machine_facts(report.environment)) for report in reports]
    machine_of: dict[tuple[str, str], int] = {}
    if not any(
        machine_of.setdefault((result.case, result.target), number) != number
        for number, report in zip(numbers, reports, strict=True)
        for result in report.results
    ):
        return (), tuple(report.results for report in reports)
    names = _machine_names([reports[numbers.index(number)].environment for number in range(len(machines))])
    return names, tuple(
        tuple(replace(result, target=f"{result.target}{ON}{names[number]}") for result in report.results)
        for number, report in zip(numbers, reports, strict=True)
    )


def without_machine(target: str) -> str:
    """The target without the name of its machine."""
    return target.partition(ON)[0]


def machine_facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``environment`` that is the same in every run on one machine."""
    cpu = environment.get("cpu") or {}
    return {key: environment.get(key) for key in _MACHINE_KEYS} | {"cpu": {key: cpu.get(key) for key in _CPU_KEYS}}


def _machine_names(environments: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The name of each board or processor, numbered if two machines have the same name."""
    names = [_machine_name(environment) for environment in environments]
    earlier = [names[:number].count(name) for number, name in enumerate(names)]
    return tuple(f"{name} ({nth + 1})" if nth else name for name, nth in zip(names, earlier, strict=True))


def _machine_name(environment: Mapping[str, Any]) -> str:
    cpu = environment.get("cpu") or {}
    return str(environment.get("board") or cpu.get("model") or environment.get("machine") or "unknown machine")


def _environment(reports: Sequence[tuple[Path, Report]]) -> Mapping[str, Any]:
    """The environment; those of the other machines, if there are any, are under ``also``."""
    environments = [report.environment for _, report in reports]
    machines = [machine_facts(environment) for environment in environments]
    if all(machine == machines[0] for machine in machines):
        return environments[0]
    others = [one for one, machine in zip(environments, machines, strict=True) if machine != machines[0]]
    return {**environments[0], "also": others}


def why_incomplete(report: Report) -> str | None:
    """Why the report lacks checks of its run, on one line; None if the run was done to its end."""
    if merged := [*report.run.get("unfinished", ()), *report.run.get("missing_shards", ())]:
        return str(merged[0])
    by = f" by {name}" if (name := report.run.get("interrupted_by")) else ""
    return f"the run was interrupted{by}" if report.run.get("interrupted") else None


def _missing_shards(shards: Sequence[str]) -> Iterator[str]:
    """A line for each number of shards of which some are missing.

    Several machines may have done the same shards; then each shard is there as often as the others.
    """
    given = Counter(match[0] for shard in shards if (match := _SHARD.fullmatch(shard)))
    for count in sorted({int(shard.partition("/")[2]) for shard in given}):
        of_count = {shard: times for shard, times in given.items() if shard.endswith(f"/{count}")}
        most = max(of_count.values())
        names = (f"{index}/{count}" for index in range(1, count + 1))
        missing = (name for name in names if of_count.get(name, 0) < most)
        if number := count - sum(times == most for times in of_count.values()):
            names_missing = f"shard {next(missing)} is" if number == 1 else f"shards {join_names(missing)} are"
            yield f"{names_missing} missing; merge with the report of each"


_SHARD = re.compile(r"[1-9]\d{0,8}/[1-9]\d{0,8}")


def _run(reports: Sequence[tuple[Path, Report]]) -> dict[str, Any]:
    runs = [report.run for _, report in reports]
    not_run = sum(run.get("not_run", 0) for run in runs)
    unfinished = [line for run in runs for line in run.get("unfinished", ())]
    unfinished += [
        f"{path}: {why}; continue it with the same command and --resume, then merge again"
        for path, report in reports
        if "merged" not in report.run and (why := why_incomplete(report))
    ]
    shards = [shard for run in runs for shard in (run.get("shard"), *run.get("shards", ())) if shard]
    missing = list(_missing_shards(shards))
    of_merges = {line for run in runs for line in (*run.get("unfinished", ()), *run.get("missing_shards", ()))}
    complaints = [line for run in runs for line in run.get("complaints", ()) if line not in of_merges]
    if any(result.compares_layers for _, report in reports for result in report.results):
        complaints = [line for line in complaints if not line.startswith(NO_LAYER_COMPARED)]
    return {
        **{key: value for key, value in runs[0].items() if key not in _KEYS_OF_ONE_PART},
        **({"not_run": not_run} if not_run else {}),
        "shard": None,
        "merged": [str(path) for path, _ in reports],
        "seconds": round(sum(float(run.get("seconds", 0.0)) for run in runs), 2),
        "exports": {key: sum((run.get("exports") or {}).get(key, 0) for run in runs) for key in ("made", "from_cache")},
        "interrupted": any(run.get("interrupted") for run in runs),
        "interrupted_by": next((run["interrupted_by"] for run in runs if run.get("interrupted_by")), None),
        "shards": shards,
        "unfinished": unfinished,
        "missing_shards": missing,
        "complaints": list(dict.fromkeys((*unfinished, *missing, *complaints))),
    }


accept_old_names(__name__)
