"""``harness doctor``: list the runtimes and devices of this machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill

import click

from harness.cli.process import echo
from harness.errors import HarnessError, RuntimeMissing

EXAMPLES = """
\b
Examples:
  harness doctor                                            what is available, and how to install the rest
  harness doctor --all                                      runtimes of other machines as well
"""
ADVICE = "; run harness doctor"
STATES = ("present", "no device", "absent")
SPEED_UP_TIMEOUT_S = 120.0


@click.command(epilog=EXAMPLES, short_help="List runtimes and devices, and how to install missing ones.")
@click.option("-a", "--all", "everything", is_flag=True, help="List also the runtimes of other machines.")
def doctor(*, everything: bool) -> int:
    """List the runtimes of this machine: available, without a device, or missing, with what to install.

    Runtimes that need another operating system or another CPU are named in one line. Starts worker processes once to
    see whether it works. Exits 3 if it does not, if a library is too old, or if there is no runtime at all.
    """
    from tabulate import tabulate

    from harness.environment import dependency_problem, name_clash, versions
    from harness.registry import plugins

    rows, elsewhere = [], []
    for name, runtime in plugins("runtimes").items():
        available = runtime.availability()
        if not available.present and not everything and (needed := _other_machine(available.install or "")):
            elsewhere.append(f"{name} ({needed})")
        else:
            rows.append((name, available.state, available.missing or available.detail, available.install or ""))
    rows.sort(key=lambda row: (STATES.index(row[1]), row[0]))
    width = _text_column_width(rows)
    headers = ("runtime", "status", "details", "install with")
    echo(tabulate(rows, headers=headers, maxcolwidths=[None, None, width, width], disable_numparse=True))
    if elsewhere:
        echo("\n" + _wrapped(f"For other machines, listed by --all: {', '.join(elsewhere)}"))
    echo("\n" + tabulate(versions().items(), headers=("package", "version"), disable_numparse=True))
    for problem in filter(None, (line := dependency_problem(), name_clash())):
        echo(f"\n{problem}", error=True)
    can_start, line_on_workers = _workers()
    echo(f"\n{line_on_workers}")
    if can_start is False:
        return 3
    if can_start and "torch" in versions():
        echo("\n" + _speed_ups())
    return 0 if line is None and any(row[1] == "present" for row in rows) else 3


def _other_machine(install: str) -> str | None:
    """What ``install``, the last words of a step, needs that this machine cannot get; None if nothing.

    A device may be put in, and a library installed; the operating system and the CPU are what they are.
    """
    is_arm = platform.machine().lower().startswith(("arm", "aarch64"))
    for needed, is_here in (
        ("macOS", sys.platform == "darwin"),
        ("Windows", sys.platform == "win32"),
        ("Android", hasattr(sys, "getandroidapilevel")),
        ("an Arm CPU", is_arm),
        ("a Rockchip board", is_arm),
        ("a board", is_arm),
    ):
        if f"on {needed}" in install and not is_here:
            return needed.removeprefix("an ").removeprefix("a ")
    return None


def _workers() -> tuple[bool | None, str]:
    """Whether a run can start worker processes (None on a system where no check runs), and one line about it."""
    from harness.environment import installed_version

    try:
        from harness.engine.processes.fork_server import SERVER

        SERVER.start("recorded" if installed_version("torch") is None else "exports")
        SERVER.wait()
    except RuntimeMissing as error:  # no check runs on this system, but the rest of harness does
        return None, str(error)
    except HarnessError as error:
        return False, str(error).removesuffix(ADVICE)
    if SERVER.problem:
        return True, f"worker processes start, but exporters cannot be prepared: {SERVER.problem}"
    return True, "worker processes start"


def _speed_ups() -> str:
    """The speed-ups that work with the installed torch, and why others do not. They are tried in a separate process."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import ProcessEnd, SeparateProcess

    with temporary_folder() as scratch, closing(SeparateProcess(scratch, torch=True)) as process:
        try:
            status = process.call(_try_speed_ups, seconds=SPEED_UP_TIMEOUT_S)
        except (RuntimeError, OSError) as error:  # raised by torch there, or the process does not start
            return _wrapped(f"Speed-ups of onnx-dynamo: not tried: {error}")
    if isinstance(status, ProcessEnd):
        return _wrapped(f"Speed-ups of onnx-dynamo: not tried: {status.description}")
    off = [f"{name} is off: {why}" for name, why in status.items() if why is not None]
    on = [name for name, why in status.items() if why is None]
    return "\n".join(map(_wrapped, [f"Speed-ups of onnx-dynamo: {', '.join(on) or 'none'} on", *off]))


def _try_speed_ups(_scratch: Path, *, announce: object) -> dict[str, str | None]:
    from harness.exporters._dynamo_cache import speed_up_status

    del announce
    return speed_up_status()


def _wrapped(line: str) -> str:
    return fill(line, get_terminal_size((160, 24)).columns, subsequent_indent="  ", break_on_hyphens=False)


def _text_column_width(rows: Sequence[Sequence[str]]) -> int:
    """The width of each of the two text columns, so that the table fits the terminal."""
    used = sum(max((len(row[column]) for row in rows), default=0) for column in (0, 1)) + 3 * len("  ")
    return min(60, max(20, (get_terminal_size((160, 24)).columns - used) // 2))


COMMANDS = (doctor,)
