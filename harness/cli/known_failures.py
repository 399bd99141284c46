"""``harness known-failures``: keep the list of known failures up to date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import FOLDER, CommandGroup
from harness.cli.process import echo
from harness.cli.reports import tell_incomplete
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.result import Report
    from harness.spec.discovery import Specs
    from harness.spec.known_failures.update import ListUpdate

EXAMPLES = """
\b
Examples:
  harness known-failures update reports/latest/report.json             remove what passes now
  harness known-failures update reports/latest/report.json --dry-run   show the changes, write nothing
  harness known-failures update reports/latest/report.json --add       propose entries for new failures
"""
SHOWN = 20


@click.group("known-failures", cls=CommandGroup)
def known_failures() -> None:
    """Keep the list of known failures up to date."""


@known_failures.command(epilog=EXAMPLES)
@click.argument("report", type=FOLDER, metavar="REPORT.json")
@click.option(
    "--known-failures", "file", type=FOLDER, metavar="FILE", help="List to update. [default: the one beside the specs]"
)
@click.option(
    "--add",
    is_flag=True,
    help="Append an entry for each kind of unlisted failure. Its checks fail until its TODO is a reason.",
)
@click.option("--dry-run", is_flag=True, help="Show the changes, and write nothing.")
def update(report: Path, *, file: Path | None, add: bool, dry_run: bool) -> int:
    """Update the list from a report.

    Entries are removed if all their checks were run and pass; comments, reasons and other entries stay as they are.
    Nothing is added without --add. Exits 0 if nothing is left to do, and 1 if an entry must be corrected by hand, a
    failure is not listed, or a new entry needs its reason.
    """
    from harness.report.json_report import read_report
    from harness.spec import KNOWN_FAILURES_FILE
    from harness.spec.known_failures import load_known_failures
    from harness.spec.known_failures.update import plan_update, updated_list

    parsed = read_report(report)
    tell_incomplete(report, parsed)
    specs = _specs_of(parsed)
    path = file or specs.known_failures or specs.root / KNOWN_FAILURES_FILE
    changes = plan_update(load_known_failures(path) if path.exists() else (), parsed, _checks(specs))
    added = changes.proposed if add else ()
    if changes.remove or added:
        text = updated_list(path, changes.remove, added)
        if not dry_run:
            _write(path, text)
    for line in _lines(path, changes, add=add):
        echo(line)
    echo(_last_line(path, changed=bool(changes.remove or added), dry_run=dry_run))
    return int(bool(changes.flagged or changes.unlisted))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; make sure that the list can be written") from error


def _specs_of(report: Report) -> Specs:
    """The specs that were run, and all others of their folder, which the list may match too."""
    from harness.spec.discovery import load_specs
    from harness.spec.glob import path_and_case

    paths = [str(path) for path in report.run.get("paths", ())]
    if not paths or not all(path_and_case(path)[0].exists() for path in paths):
        problem = f"{', '.join(paths)} not found" if paths else "the report does not name the specs that were run"
        raise UsageError(f"{problem}; call this in the folder of the run, with a report of harness run")
    specs = load_specs(paths, allow_import=True)
    return load_specs([specs.known_failures.parent], allow_import=True) if specs.known_failures else specs


def _checks(specs: Specs) -> Iterator[tuple[str, str]]:
    """Every check that the list may match: each case on each target of the specs' folder."""
    from harness.plan import plan

    for case, targets in plan(specs.cases, specs.target_sets.all, (), None).jobs:
        yield from ((case.id, str(target)) for target in targets)


def _lines(path: Path, changes: ListUpdate, *, add: bool) -> Iterator[str]:
    for entry in changes.remove:
        yield f"fixed     {entry.where}: {entry.cases} on {entry.targets} passes now: removed ({entry.reason})"
    for entry, problem in changes.flagged:
        yield f"by hand   {entry.where}: {entry.cases} on {entry.targets}: {problem}"
    if add:
        for new in changes.proposed:
            yield f"added     {path}: {new['cases']} on {new['targets']}: {new['stage']}: {new['symptom']}"
        return
    for result in changes.unlisted[:SHOWN]:
        yield f"unlisted  {result.case} on {result.target}: {result.stage}: {result.symptom}"
    if rest := changes.unlisted[SHOWN:]:
        yield f"unlisted  and {len(rest):,} more"
    if changes.unlisted:
        yield f"Not added: fix them, or append {len(changes.proposed):,} entries to the list with --add."


def _last_line(path: Path, *, changed: bool, dry_run: bool) -> str:
    if not changed:
        return f"{path}: nothing changed."
    if dry_run:
        return f"{path}: nothing written (--dry-run)."
    return f"Written: {path}; replace each TODO by a reason, then run harness run again."


COMMANDS = (known_failures,)
