"""``harness help``: the help of a command, as ``--help`` shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import click

from harness.cli.options import complete_word

EXAMPLES = """
\b
Examples:
  harness help                                              all commands
  harness help run                                          one command
  harness help known-failures update                        a command of a group
"""


def _commands(ctx: click.Context) -> Iterable[str]:
    return cast("click.Group", ctx.find_root().command).commands


@click.command("help", epilog=EXAMPLES, short_help="Show the help of a command.")
@click.argument("command", nargs=-1, metavar="[COMMAND]", shell_complete=complete_word(_commands))
@click.pass_context
def help_(ctx: click.Context, command: tuple[str, ...]) -> int:
    """Show the help of COMMAND, as COMMAND --help does; without COMMAND, that of harness."""
    code = ctx.find_root().command.main([*command, "--help"], prog_name="harness", standalone_mode=False)
    return int(code or 0)


COMMANDS = (help_,)
