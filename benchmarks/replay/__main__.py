"""Shows that a change leaves every result as it was.

    python -m benchmarks.replay [REVISION] [--only specs,recorded,backend] [-k TEXT] [--jobs N] [--expect FILE]

Runs the shipped specs, recorded models and ONNX's backend tests with the harness of REVISION and with that of the
working tree, one after the other, in this environment, and compares every row of their reports: status, stage,
symptom, blame, outputs, placement, and the exit code of each run. Texts for people may differ; they are listed.
Times are not compared. REVISION is HEAD if the working tree has changes, else the commit where it left main.

Differences that are made on purpose are argued one by one in files (see benchmarks/replay/argued.py): those given with
--expect, and those in benchmarks/replay/argued/ that REVISION does not have.

Exit codes: 0 equal except for wording and argued differences; 1 a result differs, or an argued difference does not
occur; 2 the replay cannot be made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.replay.argued import Argued, read_argued, split
from benchmarks.replay.compare import ABSENT, RUN, Difference, compare
from benchmarks.replay.material import PARTS, Part, prepare
from benchmarks.replay.run import Side, imported_from, run_part
from benchmarks.replay.summary import Outcome, PartOutcome, as_json, text
from benchmarks.replay.trees import (
    ReplayError,
    Tree,
    commit,
    default_revision,
    is_new_since,
    revision_tree,
    working_tree,
)

ROOT = Path(__file__).resolve().parent.parent.parent
ARGUED = Path("benchmarks") / "replay" / "argued"


def main(arguments: Sequence[str] | None = None, repository: Path = ROOT) -> int:
    """Replay, write ``replay.json``, print the summary."""
    request = parser().parse_args(arguments)
    try:
        outcome = replay(request, repository)
    except ReplayError as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("replay: interrupted; nothing is compared", file=sys.stderr)
        return 130
    written = request.into / "replay.json"
    written.write_text(json.dumps(as_json(outcome), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(text(outcome, request.most))
    print(f"Written: {written}")
    return outcome.exit_code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("revision", nargs="?", metavar="REVISION", help="commit, tag or branch to compare with")
    made.add_argument("--only", type=_parts, default=PARTS, metavar="PARTS", help=f"some of {','.join(PARTS)}")
    made.add_argument("-k", action="append", default=[], metavar="TEXT", help="only these cases, as for harness run")
    made.add_argument("--jobs", "-j", type=int, metavar="N", help="workers; default: the cores")
    made.add_argument("--models", type=Path, action="append", default=[], metavar="FOLDER", help="more recorded models")
    made.add_argument("--expect", type=Path, action="append", default=[], metavar="FILE", help="argued differences")
    made.add_argument("--cache", type=Path, metavar="FOLDER", help="one cache of exported files for both sides")
    made.add_argument("--most", type=int, default=20, metavar="N", help="groups shown of each kind; default: 20")
    made.add_argument("--into", type=Path, default=Path("build") / "replay", metavar="FOLDER", help="for the reports")
    return made


def replay(request: argparse.Namespace, repository: Path) -> Outcome:
    """Run every requested part on both sides and compare. Raises :class:`ReplayError` if that is not possible."""
    revision = commit(repository, request.revision or default_revision(repository))
    entries = [entry for file in _argued_files(request, repository, revision) for entry in read_argued(file)]
    into = request.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="harness-replay-") as folder:
        scratch = Path(folder)
        old = revision_tree(repository, request.revision or revision, scratch / "old" / "tree")
        new = working_tree(repository, scratch / "new" / "tree")
        imported = {tree.name: str(imported_from(tree)) for tree in (old, new)}
        parts = []
        absent = [f"{name}: not requested" for name in PARTS if name not in request.only]
        for part in prepare(request.only, [path.resolve() for path in request.models], scratch):
            sides = [_side(part, tree, into, scratch, request) for tree in (old, new)]
            parts.append(PartOutcome(part.name, part.about, *sides))
            absent += part.left_out
    differences = [difference for part in parts for difference in _differences(part)]
    if not any(part.old.rows or part.new.rows for part in parts):
        raise ReplayError(f"nothing was run on either side: {_last_line(parts[0].new)}")
    unargued, argued, unused = split(differences, entries)
    if request.k or set(request.only) != set(PARTS):
        unused = [entry for entry in unused if _replayed(entry, parts)]
    return Outcome(old.label, new.label, imported, parts, unargued, argued, unused, absent)


def _side(part: Part, tree: Tree, into: Path, scratch: Path, request: argparse.Namespace) -> Side:
    cache = request.cache.resolve() if request.cache else scratch / tree.name / "cache"
    side = run_part(part, tree, into / part.name / tree.name, cache=cache, jobs=request.jobs, keywords=request.k)
    rows = "no report" if side.rows is None else f"{len(side.rows):,} rows"
    print(f"{part.name}, {tree.name}: {rows}, exit code {side.exit_code}, {side.seconds:.0f} s", file=sys.stderr)
    return side


def _differences(part: PartOutcome) -> list[Difference]:
    """Those of the runs themselves, then those of their rows."""
    found = []
    if part.old.exit_code != part.new.exit_code:
        found.append(_of_run(part, "exit_code", part.old.exit_code, part.new.exit_code))
    if (part.old.rows is None) != (part.new.rows is None):
        states = ["present" if side.rows is not None else ABSENT for side in (part.old, part.new)]
        found.append(_of_run(part, "report", states[0], states[1]))
    return [*found, *compare(part.name, part.old.rows or {}, part.new.rows or {})]


def _of_run(part: PartOutcome, field: str, old: int | str, new: int | str) -> Difference:
    return Difference(part.name, part.name, RUN, field, old, new, "result")


def _argued_files(request: argparse.Namespace, repository: Path, revision: str) -> list[Path]:
    """Files named on the command line, and those that came with the change itself."""
    own = sorted((repository / ARGUED).glob("*.yaml"))
    return [*request.expect, *(file for file in own if is_new_since(repository, revision, file))]


def _replayed(entry: Argued, parts: Sequence[PartOutcome]) -> bool:
    return any(entry.covers(*key) for part in parts for side in (part.old, part.new) for key in side.rows or {})


def _last_line(side: Side) -> str:
    return (side.output.strip().splitlines() or ["no reason given"])[-1]


def _parts(words: str) -> tuple[str, ...]:
    named = tuple(words.split(","))
    if unknown := [word for word in named if word not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {unknown[0]!r}; one of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in named)


if __name__ == "__main__":
    sys.exit(main())
