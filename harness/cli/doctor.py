"""``harness doctor``: what this machine has."""

from __future__ import annotations

import click

EXAMPLES = """
\b
Examples:
  harness doctor                                            what is here, and what would bring the rest
"""


@click.command(epilog=EXAMPLES)
def doctor() -> int:
    """Show the runtimes of this machine: what is here, and what would bring each of the others."""
    from tabulate import tabulate

    from harness.environment import versions
    from harness.registry import plugins

    rows = []
    for name, runtime in plugins("runtimes").items():
        found = runtime.availability()
        rows.append((name, "present" if found.present else "absent", found.missing or found.detail, found.bring or ""))
    rows.sort(key=lambda row: (row[1] != "present", row[0]))
    click.echo(
        tabulate(
            rows, headers=("runtime", "", "what is there", "what would bring it"), maxcolwidths=[None, None, 60, 60]
        )
    )
    click.echo("\n" + tabulate(versions().items(), headers=("package", "version")))
    return 0 if any(row[1] == "present" for row in rows) else 3


COMMANDS = (doctor,)
