"""``harness doctor``: what this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import get_terminal_size

import click

EXAMPLES = """
\b
Examples:
  harness doctor                                            what is here, and what would bring the rest
"""
STATES = ("present", "no device", "absent")


@click.command(epilog=EXAMPLES, short_help="List runtimes and devices, and what would bring the rest.")
def doctor() -> int:
    """Show the runtimes of this machine: what is here, what lacks a device, and what would bring the rest.

    Exits 3 where there is none at all, or a library is too old.
    """
    from tabulate import tabulate

    from harness.environment import versions
    from harness.registry import plugins
    from harness.requirements import unsupported

    rows = []
    for name, runtime in plugins("runtimes").items():
        found = runtime.availability()
        rows.append((name, found.state, found.missing or found.detail, found.bring or ""))
    rows.sort(key=lambda row: (STATES.index(row[1]), row[0]))
    width = _half_of_what_is_left(rows)
    headers = ("runtime", "", "what is there", "what would bring it")
    click.echo(tabulate(rows, headers=headers, maxcolwidths=[None, None, width, width]))
    click.echo("\n" + tabulate(versions().items(), headers=("package", "version")))
    if (line := unsupported()) is not None:
        click.echo(f"\n{line}", err=True)
    return 0 if line is None and any(row[1] == "present" for row in rows) else 3


def _half_of_what_is_left(rows: Sequence[Sequence[str]]) -> int:
    """The width of each of the two columns of prose, so that the table fits the terminal."""
    taken = sum(max((len(row[column]) for row in rows), default=0) for column in (0, 1)) + 3 * len("  ")
    return min(60, max(20, (get_terminal_size((160, 24)).columns - taken) // 2))


COMMANDS = (doctor,)
