"""``harness known-failures``: keep the list of known failures true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import FOLDER, CommandGroup
from harness.cli.process import say
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.known_failures_update import ListUpdate
    from harness.result import Report
    from harness.spec.discovery import Specs

EXAMPLES = """
\b
Examples:
  harness known-failures update reports/latest/report.json             take out what passes now
  harness known-failures update reports/latest/report.json --dry-run   say what would be done
  harness known-failures update reports/latest/report.json --add       propose entries for new failures
"""
SHOWN = 20


@click.group("known-failures", cls=CommandGroup)
def known_failures() -> None:
    """Keep the list of known failures true."""


@known_failures.command(epilog=EXAMPLES)
@click.argument("report", type=FOLDER, metavar="REPORT.json")
@click.option("--known-failures", "file", type=FOLDER, metavar="FILE", help="[default: the one beside the specs]")
@click.option("--add", is_flag=True, help="Put an entry at the end for each failure that is not listed, reason: TODO.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
def update(report: Path, *, file: Path | None, add: bool, dry_run: bool) -> int:
    """Rewrite the list from a report.

    Entries whose every check was run and passes are taken out; comments, reasons and the other entries stay as they
    are. Nothing is added without --add. Exits 0 where nothing is left for a person to do, and 1 where an entry must be
    corrected by hand, a failure is not listed, or a new entry still needs its reason.
    """
    from harness.known_failures_update import amended, list_update
    from harness.report.json_report import read_report
    from harness.spec.discovery import KNOWN_FAILURES
    from harness.spec.known_failures import load_known_failures

    told = read_report(report)
    specs = _specs_of(told)
    path = file or specs.known_failures or specs.root / KNOWN_FAILURES
    todo = list_update(load_known_failures(path) if path.exists() else (), told, _checks(specs))
    added = todo.proposed if add else ()
    if todo.remove or added:
        text = amended(path, todo.remove, added)
        if not dry_run:
            _write(path, text)
    for line in _said(path, todo, add=add):
        say(line)
    say(_in_the_end(path, changed=bool(todo.remove or added), dry_run=dry_run))
    return int(bool(todo.flagged or todo.unlisted))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; see that the list can be written") from error


def _specs_of(report: Report) -> Specs:
    """The specs that were run, with the rest of their folder, which the list may speak of as well."""
    from harness.spec.discovery import load

    paths = [str(path) for path in report.run.get("paths", ())]
    if not paths or not all(Path(path).exists() for path in paths):
        where = f"{', '.join(paths)} is not here" if paths else "the report does not say which specs were run"
        raise UsageError(f"{where}; call it from the folder of the run, with a report of harness run")
    specs = load(paths, allow_import=True)
    return load([specs.known_failures.parent], allow_import=True) if specs.known_failures else specs


def _checks(specs: Specs) -> Iterator[tuple[str, str]]:
    """Every check that the list may speak of: each case on each target that the specs' folder names."""
    from harness.plan import plan

    for case, targets in plan(specs.cases, specs.target_sets.all, (), None).work:
        yield from ((case.id, str(target)) for target in targets)


def _said(path: Path, todo: ListUpdate, *, add: bool) -> Iterator[str]:
    for entry in todo.remove:
        yield f"fixed     {entry.where}: {entry.cases} on {entry.targets} passes now: taken out ({entry.reason})"
    for entry, matter in todo.flagged:
        yield f"by hand   {entry.where}: {entry.cases} on {entry.targets}: {matter}"
    if add:
        for new in todo.proposed:
            yield f"added     {path}: {new['cases']} on {new['targets']}: {new['stage']}: {new['symptom']}"
        return
    for result in todo.unlisted[:SHOWN]:
        yield f"unlisted  {result.case} on {result.target}: {result.stage}: {result.symptom}"
    if rest := todo.unlisted[SHOWN:]:
        yield f"unlisted  and {len(rest):,} more"
    if todo.unlisted:
        yield f"Not added: mend them, or put {len(todo.proposed):,} entries at the end of the list with --add."


def _in_the_end(path: Path, *, changed: bool, dry_run: bool) -> str:
    if not changed:
        return f"{path}: nothing changed."
    if dry_run:
        return f"{path}: nothing written, as --dry-run asks."
    return f"Written: {path}; give a reason wherever it says TODO, then run harness run again."


COMMANDS = (known_failures,)
