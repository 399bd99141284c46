"""``harness merge``: several reports as one."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import FORMATS, WordList, lists

EXAMPLES = """
\b
Examples:
  harness merge shard-1/report.json shard-2/report.json --report-dir reports/whole
"""


@click.command(epilog=EXAMPLES, short_help="Join the reports of shards, or of several machines.")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPORT.json...")
@click.option("--report-dir", type=click.Path(path_type=Path), default="reports/latest", show_default=True)
@click.option(
    "--format",
    "formats",
    type=WordList(),
    shell_complete=lists(lambda _: FORMATS),
    default="json,md,html",
    show_default=True,
)
def merge(reports: tuple[Path, ...], report_dir: Path, formats: tuple[str, ...]) -> int:
    """Join the reports of the shards of a run, or of several machines, into one; exits as the whole run would have."""
    from harness.gate import exit_code
    from harness.report.json_report import read_report
    from harness.report.machines import merge as joined
    from harness.report.terminal import show
    from harness.report.write import write

    whole = joined([(path, read_report(path)) for path in reports])
    show(whole, write(whole, report_dir, formats))
    return exit_code(whole.results)


COMMANDS = (merge,)
