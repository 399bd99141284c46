"""``harness merge``, ``diff`` and ``history``: join reports into one, compare two, and draw many over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import AS_JSON, EFFECT, FOLDER, GATE, REPORT_DIR, REPORT_FORMATS
from harness.cli.process import echo
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.result import Report

MERGE_EXAMPLES = """
\b
Examples:
  harness merge shard-1/report.json shard-2/report.json --report-dir reports/whole
"""
DIFF_EXAMPLES = """
\b
Examples:
  harness diff reports/main/report.json reports/latest/report.json
  harness diff old.json new.json --min-effect 0.1           ignore latency changes below 10 %
  harness diff old.json new.json --allow-missing            a part of the checks against all of them
"""

HISTORY_EXAMPLES = """
\b
Examples:
  harness history reports/                                  every report.json below the folder
  harness history reports/ --min-effect 0.1 -o history.svg  ignore latency changes below 10 %
"""


@click.command(epilog=MERGE_EXAMPLES, short_help="Join the reports of shards, or of several machines.")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPORT.json...")
@REPORT_DIR
@REPORT_FORMATS
def merge(reports: tuple[Path, ...], report_dir: Path, formats: tuple[str, ...]) -> int:
    """Join the reports of the shards of a run, or of several machines, into one.

    Exits as the whole run would; 1 if a shard is missing, and as an interrupted run if one was interrupted.
    """
    from harness.gate import exit_code_of_merged
    from harness.report import chosen_formats, write
    from harness.report.json_report import read_report
    from harness.report.machines import merge as merge_reports
    from harness.report.terminal import show

    chosen_formats(formats)
    whole = merge_reports([(path, read_report(path)) for path in reports])
    show(whole, write(whole, report_dir, formats))
    return exit_code_of_merged(whole)


@click.command(epilog=DIFF_EXAMPLES, short_help="Compare two reports: parity and latency.")
@click.argument("old", type=FOLDER, metavar="OLD.json")
@click.argument("new", type=FOLDER, metavar="NEW.json")
@EFFECT
@GATE
@click.option("--across-hardware", is_flag=True, help="Compare latencies even if the machines differ.")
@click.option("--allow-missing", is_flag=True, help="Accept that checks of OLD.json are not in NEW.json.")
@AS_JSON
def diff(
    old: Path,
    new: Path,
    *,
    min_effect: float,
    gate: tuple[str, ...] | None,
    across_hardware: bool,
    allow_missing: bool,
    as_json: bool,
) -> int:
    """Show what changed in parity and latency from one report to another.

    Exits 1 on a regression: a check that is no longer as expected, a new one that is not, one that is lost, and a
    latency that became slower.
    """
    import json

    from harness.report.diff import diff as compare_reports
    from harness.report.diff.start import gated_figures
    from harness.report.diff.text import show_diff
    from harness.report.json_report import read_report

    before, after = read_report(old), read_report(new)
    for path, report in ((old, before), (new, after)):
        tell_incomplete(path, report)
    result = compare_reports(
        before,
        after,
        min_effect=min_effect,
        across_hardware=across_hardware,
        allow_missing=allow_missing,
        gate=gated_figures(gate or ()),
    )
    if as_json:
        echo(json.dumps(result.to_dict(), indent=1))
    else:
        show_diff(result)
    return int(result.regressed)


def tell_incomplete(path: Path, report: Report) -> None:
    """Print on standard error why the report at ``path`` lacks checks of its run, if it does."""
    from harness.report.machines import why_incomplete

    if why := why_incomplete(report):
        echo(f"{path}: not all checks were done: {why}", error=True)


@click.command(epilog=HISTORY_EXAMPLES, short_help="Draw parity and latency over kept reports.")
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("-o", "--output", type=FOLDER, metavar="FILE", help="File for the picture. [default: DIR/history.svg]")
@EFFECT
@AS_JSON
def history(folder: Path, *, output: Path | None, min_effect: float, as_json: bool) -> int:
    """Show the runs whose reports are kept below DIR, with what changed from one to the next, and draw them as SVG.

    A check is compared with the run before, a latency with its last change point, both by the rule of harness diff.
    """
    import json

    from harness.report.history import history as history_of
    from harness.report.history import history_lines, picture, read_reports

    runs = history_of(read_reports(folder), min_effect)
    if as_json:
        echo(json.dumps([run.to_dict() for run in runs], indent=1))
        return 0
    for line in history_lines(runs):
        echo(line)
    path = output or folder / "history.svg"
    try:
        path.write_text(picture(runs), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {path}: {error.strerror}; choose a file that can be written") from error
    echo(f"Written: {path}")
    return 0


COMMANDS = (merge, diff, history)
