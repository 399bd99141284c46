"""Finds out for which operators the float64 evaluation of ONNX files agrees with ONNX Runtime.

    python -m benchmarks.operator_sweep [--only NAME,...] [--report FILE] [--table FILE] [--list]

Evaluates small models of each operator at each of its versions, runs them with ONNX Runtime on the CPU with graph
optimization off, and compares. Writes the report, and the table of the pairs that agree, which harness reads when it
decides whom to blame. With --only, some operators are tried and nothing is written. Takes about half a minute.

Exit codes: 0 nothing disagrees with the committed table; 1 a pair of the table does not agree any more.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.operator_sweep.judge import Outcome
from benchmarks.operator_sweep.report import markdown, table
from benchmarks.operator_sweep.sweep import Judgement, sweep
from harness.blame.evaluator import TABLE, believed_versions

ROOT = Path(__file__).resolve().parent.parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep, write, print the counts."""
    request = parser().parse_args(arguments)
    only = set(request.only.split(",")) if request.only else set()
    warnings.simplefilter("ignore")  # the models overflow and divide by zero on purpose
    judgements = sweep(
        lambda pair: not only or pair.operator in only,
        lambda line: print(line, file=sys.stderr) if request.list else None,
    )
    lost = [judgement for judgement in judgements if _was_believed(judgement) and judgement.state != "agree"]
    if only:
        for judgement in judgements:
            print(f"{judgement.pair.operator} {judgement.pair.since}: {judgement.state}")
            for outcome in judgement.outcomes:
                print(f"  {outcome.case}: {_line(outcome)}")
    else:
        request.report.write_text(markdown(judgements), encoding="utf-8")
        request.table.write_text(table(judgements), encoding="utf-8")
    print(", ".join(f"{count} {state}" for state, count in Counter(each.state for each in judgements).items()))
    for judgement in lost:
        print(f"no longer believed: {judgement.pair.operator} {judgement.pair.since} ({judgement.state})")
    return 1 if lost else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.operator_sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", metavar="NAMES", help="operators, such as Softmax,LSTM")
    made.add_argument("--report", type=Path, default=ROOT / "reports" / "operators.md", metavar="FILE")
    made.add_argument("--table", type=Path, default=TABLE, metavar="FILE")
    made.add_argument("--list", action="store_true", help="print each pair as it is judged")
    return made


def _line(outcome: Outcome) -> str:
    return f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state


def _was_believed(judgement: Judgement) -> bool:
    try:
        return judgement.pair.since in believed_versions(judgement.pair.domain, judgement.pair.operator)
    except (OSError, json.JSONDecodeError):
        return False


if __name__ == "__main__":
    sys.exit(main())
