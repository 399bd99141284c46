"""The command line: arguments -> one call -> exit code; one command a file.

Every module here that is not private names its commands in ``COMMANDS``. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from harness import __version__
from harness.cli.options import CommandGroup
from harness.errors import HarnessError

EXAMPLES = """
\b
Examples:
  harness init Conv2d                                 write a first spec
  harness run specs/                                  verify everything on the default targets
  harness run specs/avgpool2d.yaml -k divisor         one family of cases
  harness run specs/ --targets 'onnx-dynamo@23/*'     targets by name, set or glob
  harness check specs/                                validate only; answers at once

\b
Completion after Tab, in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:
  eval "$(_HARNESS_COMPLETE=bash_source harness)"
  eval "$(_HARNESS_COMPLETE=zsh_source harness)"
  _HARNESS_COMPLETE=fish_source harness | source
"""


@click.group(
    cls=CommandGroup,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Tell, with proof, whether the model that you exported is still the model that you trained."""


for module in iter_modules(__path__):
    for command in getattr(import_module(f"{__name__}.{module.name}"), "COMMANDS", ()):
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; a mistake of the user's is a line, never a traceback."""
    call: Callable[..., Any] = cli.main
    try:
        code = call(args=None if arguments is None else list(arguments), prog_name="harness", standalone_mode=False)
    except HarnessError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except click.ClickException as error:
        click.echo(_on_one_line(error), err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _on_one_line(error: click.ClickException) -> str:
    """What click has to say of the command line, as harness says what is wrong."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "harness"
    said = " ".join(error.format_message().split()).removesuffix(".")
    return f"{command}: {said[:1].lower()}{said[1:]}; {command} --help says what there is"
