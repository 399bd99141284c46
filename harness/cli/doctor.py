"""``harness doctor``: what this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import get_terminal_size

import click

from harness.errors import HarnessError, RuntimeMissing

EXAMPLES = """
\b
Examples:
  harness doctor                                            what is here, and what would bring the rest
"""
ADVICE = "; run harness doctor"
STATES = ("present", "no device", "absent")


@click.command(epilog=EXAMPLES, short_help="List runtimes and devices, and what would bring the rest.")
def doctor() -> int:
    """Show the runtimes of this machine: what is here, what lacks a device, and what would bring the rest.

    Worker processes are started once, to see that they can be. Exits 3 where they cannot, and where there is no runtime
    at all.
    """
    from tabulate import tabulate

    from harness.environment import versions
    from harness.registry import plugins

    rows = []
    for name, runtime in plugins("runtimes").items():
        found = runtime.availability()
        rows.append((name, found.state, found.missing or found.detail, found.bring or ""))
    rows.sort(key=lambda row: (STATES.index(row[1]), row[0]))
    width = _half_of_what_is_left(rows)
    headers = ("runtime", "", "what is there", "what would bring it")
    click.echo(tabulate(rows, headers=headers, maxcolwidths=[None, None, width, width]))
    click.echo("\n" + tabulate(versions().items(), headers=("package", "version")))
    can_start, told = _workers()
    click.echo(f"\n{told}")
    if not can_start:
        return 3
    return 0 if any(row[1] == "present" for row in rows) else 3


def _workers() -> tuple[bool, str]:
    """False where a run could not start worker processes on a system that has them, and one line on them."""
    from harness.environment import installed

    try:
        from harness.engine.fork_server import SERVER
        from harness.engine.server import warm_up

        warm_up(torch=installed("torch") is not None)
        SERVER.wait()
    except RuntimeMissing as error:  # no check runs on this system; the rest of harness does
        return True, str(error)
    except HarnessError as error:
        return False, str(error).removesuffix(ADVICE)
    if SERVER.problem:
        return True, f"worker processes start, but exporters cannot be prepared: {SERVER.problem}"
    return True, "worker processes start"


def _half_of_what_is_left(rows: Sequence[Sequence[str]]) -> int:
    """The width of each of the two columns of prose, so that the table fits the terminal."""
    taken = sum(max((len(row[column]) for row in rows), default=0) for column in (0, 1)) + 3 * len("  ")
    return min(60, max(20, (get_terminal_size((160, 24)).columns - taken) // 2))


COMMANDS = (doctor,)
