"""``harness doctor``: what this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill

import click

from harness.cli.process import say
from harness.errors import HarnessError, RuntimeMissing

EXAMPLES = """
\b
Examples:
  harness doctor                                            what is here, and what would bring the rest
"""
ADVICE = "; run harness doctor"
STATES = ("present", "no device", "absent")
LONGEST = 120.0


@click.command(epilog=EXAMPLES, short_help="List runtimes and devices, and what would bring the rest.")
def doctor() -> int:
    """Show the runtimes of this machine: what is here, what lacks a device, and what would bring the rest.

    Starts worker processes once, to see that they can be started. Exits 3 where they cannot, where a library is too
    old, and where there is no runtime at all.
    """
    from tabulate import tabulate

    from harness.environment import unsupported, versions
    from harness.registry import plugins

    rows = []
    for name, runtime in plugins("runtimes").items():
        found = runtime.availability()
        rows.append((name, found.state, found.missing or found.detail, found.bring or ""))
    rows.sort(key=lambda row: (STATES.index(row[1]), row[0]))
    width = _half_of_what_is_left(rows)
    headers = ("runtime", "", "what is there", "what would bring it")
    say(tabulate(rows, headers=headers, maxcolwidths=[None, None, width, width]))
    say("\n" + tabulate(versions().items(), headers=("package", "version")))
    if (line := unsupported()) is not None:
        say(f"\n{line}", error=True)
    can_start, told = _workers()
    say(f"\n{told}")
    if can_start is False:
        return 3
    if can_start and "torch" in versions():
        say("\n" + _speed_ups())
    return 0 if line is None and any(row[1] == "present" for row in rows) else 3


def _workers() -> tuple[bool | None, str]:
    """Whether a run can start worker processes, None on a system where no check runs; and one line on them."""
    from harness.environment import installed

    try:
        from harness.engine.processes.fork_server import SERVER

        SERVER.start("recorded" if installed("torch") is None else "exports")
        SERVER.wait()
    except RuntimeMissing as error:  # no check runs on this system; the rest of harness does
        return None, str(error)
    except HarnessError as error:
        return False, str(error).removesuffix(ADVICE)
    if SERVER.problem:
        return True, f"worker processes start, but exporters cannot be prepared: {SERVER.problem}"
    return True, "worker processes start"


def _speed_ups() -> str:
    """Which of harness's speed-ups the installed torch takes, and why not the others: tried in a process of its own."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import Contained, Gone

    with temporary_folder() as scratch, closing(Contained(scratch, torch=True)) as process:
        try:
            found = process.ask(_try_speed_ups, seconds=LONGEST)
        except (RuntimeError, OSError) as error:  # what torch itself raises there, or a process that does not start
            return _wrapped(f"Speed-ups of onnx-dynamo: not tried: {error}")
    if isinstance(found, Gone):
        return _wrapped(f"Speed-ups of onnx-dynamo: not tried: {found.how}")
    off = [f"{name} is off: {why}" for name, why in found.items() if why is not None]
    on = [name for name, why in found.items() if why is None]
    return "\n".join(map(_wrapped, [f"Speed-ups of onnx-dynamo: {', '.join(on) or 'none'} on", *off]))


def _try_speed_ups(_scratch: Path, *, announce: object) -> dict[str, str | None]:
    from harness.exporters._dynamo_cache import speed_ups

    del announce
    return speed_ups()


def _wrapped(line: str) -> str:
    return fill(line, get_terminal_size((160, 24)).columns, subsequent_indent="  ", break_on_hyphens=False)


def _half_of_what_is_left(rows: Sequence[Sequence[str]]) -> int:
    """The width of each of the two columns of prose, so that the table fits the terminal."""
    taken = sum(max((len(row[column]) for row in rows), default=0) for column in (0, 1)) + 3 * len("  ")
    return min(60, max(20, (get_terminal_size((160, 24)).columns - taken) // 2))


COMMANDS = (doctor,)
