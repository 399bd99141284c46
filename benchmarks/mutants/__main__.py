"""Shows whether the tests notice small mistakes in what decides a verdict, a blame or a regression.

    python -m benchmarks.mutants [--rooms NAME,...] [--count N] [--minutes N] [-j N] [--keep-killed]

Draws mutants of each room (benchmarks/mutants/rooms.py) with a fixed seed, runs the room's tests on each, and writes
reports/mutants.md. A run that was ended, or that reached --minutes, is continued by the next: outcomes are kept in
build/mutants as long as the changed file and the room's tests are the same. Remove that folder to begin anew. With
--rooms or --count no report is written unless --report names one.

Exit codes: 0 each room kills at least 92 % and each survivor is argued; 1 not so; 2 the mutants cannot be tried;
75 not all were tried in the given minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchmarks.mutants.argued import ARGUED, Argument, read_arguments
from benchmarks.mutants.made import OPERATORS, Mutant, mutants_of, sample
from benchmarks.mutants.report import RoomResult, markdown
from benchmarks.mutants.rooms import ROOMS, Room
from benchmarks.mutants.trial import MutantsError, Outcomes, try_all

ROOT = Path(__file__).resolve().parent.parent.parent
REPORT = ROOT / "reports" / "mutants.md"
BUILD = ROOT / "build" / "mutants"
VERSIONS = ("cosmic-ray", "torch", "onnx", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, try, write the report; print what does not hold."""
    request = parser().parse_args(arguments)
    names = request.rooms.split(",") if request.rooms else [room.name for room in ROOMS]
    if unknown := [name for name in names if name not in {room.name for room in ROOMS}]:
        print(f"no room {unknown[0]!r}; the rooms are {', '.join(room.name for room in ROOMS)}", file=sys.stderr)
        return 2
    rooms = [room for room in ROOMS if room.name in names]
    try:
        argued = read_arguments(ARGUED)
        made = {room.name: [each for file in room.sources(ROOT) for each in _mutants(file)] for room in rooms}
        jobs = [(room, sample(made[room.name], request.count or room.count)) for room in rooms]
        outcomes = Outcomes(BUILD / "outcomes.jsonl", ROOT, rooms, keep_killed=request.keep_killed)
        complete = try_all(
            jobs,
            ROOT,
            BUILD,
            outcomes,
            workers=request.jobs,
            seconds=60 * request.minutes,
            note=lambda line: print(line, flush=True),
        )
    except (MutantsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    results = [_result(room, len(made[room.name]), drawn, outcomes, argued) for room, drawn in jobs]
    for result in results:
        print(f"{result.room.name}: {result.killed} of {len(result.tried)} killed ({result.share:.1%})")
    partial = request.rooms or request.count or not complete
    if report := request.report or (None if partial else REPORT):
        report.write_text(markdown(results, {name: version(name) for name in VERSIONS}), encoding="utf-8")
    if not complete:
        print(f"not all were tried in {request.minutes:g} minutes; the next run continues", file=sys.stderr)
        return 75
    problems = [problem for result in results for problem in result.problems]
    problems += [] if partial else _unused(results)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--rooms", metavar="NAMES", help="some rooms, such as compare,gate")
    made.add_argument("--count", type=int, metavar="N", help="mutants of each room (default: as the room says)")
    made.add_argument("--minutes", type=float, default=60, metavar="N", help="stop after so long (default: 60)")
    made.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="mutants at a time (default: 2)")
    made.add_argument("--keep-killed", action="store_true", help="tests were only added since: killed is killed")
    made.add_argument("--report", type=Path, metavar="FILE")
    return made


def _result(
    room: Room, available: int, drawn: Sequence[Mutant], outcomes: Outcomes, argued: Sequence[Argument]
) -> RoomResult:
    found = [(each, outcomes.get(room.name, each)) for each in drawn]
    tried = [(each, outcome) for each, outcome in found if outcome is not None]
    return RoomResult(room, available, tried, argued, len(drawn) - len(tried))


def _mutants(file: str) -> list[Mutant]:
    """The mutants of ``file``, made once for each version of it."""
    texts = [
        (ROOT / file).read_text(encoding="utf-8"),
        Path(mutants_of.__code__.co_filename).read_text(encoding="utf-8"),
    ]
    name = hashlib.sha256(json.dumps([file, texts, OPERATORS]).encode()).hexdigest()[:16]
    kept = BUILD / "made" / f"{name}.json"
    if kept.exists():
        return [Mutant(**each) for each in json.loads(kept.read_text(encoding="utf-8"))]
    made = mutants_of(ROOT, file)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps([asdict(mutant) for mutant in made]), encoding="utf-8")
    return made


def _unused(results: Sequence[RoomResult]) -> list[str]:
    """Arguments for mutants that did not survive, or do not exist any more."""
    used = {argument for result in results for _, argument in result.survivors if argument}
    arguments = results[0].arguments if results else ()
    return [
        f"{ARGUED.name}: no such survivor: {each.file}: {each.was} -> {each.now}"
        for each in arguments
        if each not in used
    ]


if __name__ == "__main__":
    sys.exit(main())
