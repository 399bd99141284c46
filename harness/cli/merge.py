"""``harness merge``: join several reports into one."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import REPORT_DIR, REPORT_FORMATS

EXAMPLES = """
\b
Examples:
  harness merge shard-1/report.json shard-2/report.json --report-dir reports/whole
"""


@click.command(epilog=EXAMPLES, short_help="Join the reports of shards, or of several machines.")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPORT.json...")
@REPORT_DIR
@REPORT_FORMATS
def merge(reports: tuple[Path, ...], report_dir: Path, formats: tuple[str, ...]) -> int:
    """Join the reports of the shards of a run, or of several machines, into one. Exits as the whole run would."""
    from harness.gate import exit_code
    from harness.report.json_report import read_report
    from harness.report.machines import merge as merge_reports
    from harness.report.terminal import show
    from harness.report.write import write

    whole = merge_reports([(path, read_report(path)) for path in reports])
    show(whole, write(whole, report_dir, formats))
    return exit_code(whole.results)


COMMANDS = (merge,)
