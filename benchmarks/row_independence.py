"""Shows that a row does not depend on what else the run does.

    python -m benchmarks.row_independence [PATH...] [--runs N] [--share S] [--seed N] [--allow-import] [--targets LIST]

N runs take a random share of the checks of the specs: cases in random order, each on a random part of the targets, on
one or two workers, with an empty artifact cache, with one that earlier runs filled, or without one. Some checks also
run quite alone, each in a run of its own. Before them, all of these checks run once, in the order of the specs and on
one worker. Every row must be that of this first run: status, stage, symptom, message, blame, outputs, artifact, notes
and what the libraries printed.

Times are not compared. Writes reports/row-independence.md. Exit code 1 if a row differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.check.settings import Settings
from harness.engine.run_checks import run_jobs
from harness.environment import versions
from harness.plan import plan
from harness.result import Result
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case
from harness.spec.targets import Target

ROOT = Path(__file__).resolve().parent.parent
NOT_COMPARED = frozenset({"seconds", "latency", "artifact_path"})
MOST_SHOWN = 20
SHOWN = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]
Jobs = Sequence[tuple[Case, tuple[Target, ...]]]

MARKDOWN = """# Rows that depend on nothing else

Measured with {about}.

{runs} runs took a random share of the {checks:,} checks of {paths}, in random order, each case on a random part of the
targets, and {alone} checks ran quite alone. Before them, all of these checks ran once, in the order of the specs and on
one worker. {compared:,} rows were compared with those of that run, in everything but times and the place of
the exported file: **{differing} differ**.

{table}

{differences}
Made by `python -m benchmarks.row_independence`, seed {seed}.
"""


class _Silent:
    """Listens to a run and says nothing."""

    def advance(self, result: Result) -> None:
        """One more result is known."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of a row that is not as in the first run."""

    run: str
    case: str
    target: str
    field: str
    first: Any
    here: Any

    def __str__(self) -> str:
        return f"{self.run}: {self.case} on {self.target}: {self.field}: {self.first!r} became {self.here!r}"


@dataclass(frozen=True, slots=True)
class Run:
    """A random run, and how many of its rows differ from the first run's."""

    name: str
    checks: int
    workers: int
    cache: str
    seconds: float
    differing: int


def rows(jobs: Jobs, workers: int, cache: Path | None) -> Rows:
    """The rows of a run of ``jobs``."""
    with tempfile.TemporaryDirectory(prefix="row-independence-") as folder:
        settings = Settings(latency=False, cache=cache)
        results = run_jobs(jobs, settings, workers, Path(folder), _Silent(), resume=False).results
    return {(result.case, result.target): _row(result) for result in results}


def _row(result: Result) -> Row:
    return {name: value for name, value in dataclasses.asdict(result).items() if name not in NOT_COMPARED}


def random_jobs(jobs: Jobs, share: float, generator: random.Random) -> Jobs:
    """A random ``share`` of ``jobs`` in random order, each on some of its targets in random order."""
    chosen = generator.sample(list(jobs), max(1, round(share * len(jobs))))
    return [(case, tuple(generator.sample(targets, generator.randint(1, len(targets))))) for case, targets in chosen]


def _union(jobs: Jobs, chosen: Sequence[Jobs]) -> Jobs:
    """The checks of any of ``chosen``, in the order of ``jobs``."""
    checks = {(case.id, str(target)) for each in chosen for case, targets in each for target in targets}
    parts = ((case, tuple(target for target in targets if (case.id, str(target)) in checks)) for case, targets in jobs)
    return [(case, targets) for case, targets in parts if targets]


def differences(name: str, first: Rows, here: Rows) -> Iterator[Difference]:
    """Each field in which a row of a run is not that of the first run."""
    for key, row in here.items():
        for field in row:
            before, after = _text(first[key][field]), _text(row[field])
            if before != after:
                yield Difference(name, *key, field, first[key][field], row[field])


def _text(value: Any) -> str:
    return repr(value)  # NaN equals NaN in a text


def main() -> int:
    """Run all checks, then random shares of them; write the report. Returns 1 if a row differs."""
    request = _parser().parse_args()
    specs = load_specs(request.paths, allow_import=request.allow_import)
    targets = specs.target_sets.select(request.targets.split(","))
    jobs = plan(specs.cases, targets, (), None).jobs
    generator = random.Random(request.seed)
    runs: list[Run] = []
    found: list[Difference] = []
    with tempfile.TemporaryDirectory(prefix="row-independence-") as folder:
        alone = [(case, (target,)) for case, targets in jobs for target in targets]
        requests = [(f"run {number}", random_jobs(jobs, request.share, generator)) for number in range(request.runs)]
        requests += [("alone", [check]) for check in generator.sample(alone, min(request.alone, len(alone)))]
        first = rows(_union(jobs, [chosen for _, chosen in requests]), 1, Path(folder, "first"))
        print(f"{len(first):,} checks in the first run", flush=True)
        for number, (name, chosen) in enumerate(requests):
            workers = 1 if name == "alone" else generator.randint(1, 2)
            cache = generator.choice(("empty", "filled", "none"))
            paths = {"empty": Path(folder, str(number)), "filled": Path(folder, "shared"), "none": None}
            began = time.monotonic()
            here = rows(chosen, workers, paths[cache])
            new = list(differences(name, first, here))
            differing = len({(difference.case, difference.target) for difference in new})
            runs.append(Run(name, len(here), workers, cache, time.monotonic() - began, differing))
            found += new
            print(runs[-1], *new[:MOST_SHOWN], sep="\n  ", flush=True)
    compared = sum(run.checks for run in runs)
    text = MARKDOWN.format(
        about=", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN),
        checks=len(alone),
        paths=", ".join(f"`{path}`" for path in request.paths),
        runs=request.runs,
        alone=sum(run.name == "alone" for run in runs),
        compared=compared,
        differing=sum(run.differing for run in runs),
        table=_table(runs),
        differences=_summary(found),
        seed=request.seed,
    )
    request.report.write_text(text, encoding="utf-8")
    print(f"{compared:,} rows compared, {sum(run.differing for run in runs)} differ; {request.report}")
    return 1 if found or not compared else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=["specs"], metavar="PATH", help="specs; default: specs")
    parser.add_argument("--targets", default="default", metavar="LIST")
    parser.add_argument("--runs", type=int, default=10, metavar="N")
    parser.add_argument("--share", type=float, default=0.1, metavar="S", help="of the cases, in each run; default: 0.1")
    parser.add_argument("--alone", type=int, default=5, metavar="N", help="checks that run alone; default: 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow-import", action="store_true", help="run the factories that the specs name")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "row-independence.md")
    return parser


def _table(runs: Sequence[Run]) -> str:
    headers = ("run", "checks", "workers", "artifact cache", "seconds", "rows that differ")
    values = [(run.name, run.checks, run.workers, run.cache, f"{run.seconds:.1f}", run.differing) for run in runs]
    return tabulate(values, headers=headers, tablefmt="github")


def _summary(found: Sequence[Difference]) -> str:
    if not found:
        return ""
    counts = Counter(difference.field for difference in found)
    fields = ", ".join(f"{field} ({count})" for field, count in counts.most_common())
    lines = [f"- {str(difference)[:500]}" for difference in found[:MOST_SHOWN]]
    return "\n".join([f"Fields that differ: {fields}.", "", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
