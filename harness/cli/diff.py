"""``harness diff``: compare two reports."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import EFFECT, FOLDER
from harness.cli.process import echo

EXAMPLES = """
\b
Examples:
  harness diff reports/main/report.json reports/latest/report.json
  harness diff old.json new.json --min-effect 0.1           ignore latency changes below 10 %
"""


@click.command(epilog=EXAMPLES, short_help="Compare two reports: parity and latency.")
@click.argument("old", type=FOLDER, metavar="OLD.json")
@click.argument("new", type=FOLDER, metavar="NEW.json")
@EFFECT
@click.option("--across-hardware", is_flag=True, help="Compare latencies even if the machines differ.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def diff(old: Path, new: Path, *, min_effect: float, across_hardware: bool, as_json: bool) -> int:
    """Show what changed in parity and latency from one report to another. Exits 1 on a regression."""
    import json

    from harness.report.diff import diff as compare_reports
    from harness.report.diff.text import show_diff
    from harness.report.json_report import read_report

    result = compare_reports(read_report(old), read_report(new), min_effect=min_effect, across_hardware=across_hardware)
    if as_json:
        echo(json.dumps(result.to_dict(), indent=1))
    else:
        show_diff(result)
    return int(bool(result.regressions))


COMMANDS = (diff,)
