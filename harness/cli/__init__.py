"""The command line. Each command parses arguments, calls one function and returns an exit code.

Every public module of this package lists its commands in ``COMMANDS``. Nothing slow is imported before it is needed, so
that ``harness --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from harness import __version__
from harness.cli.options import CommandGroup
from harness.cli.process import Signals, Streams, echo, failure_line, require_working_directory
from harness.errors import SIGNAL_EXIT_BASE, HarnessError, Interrupted, SpecError, interrupting_signal, one_line

PRECISION = frozenset({"sensitivity", "ladder"})
WRITE_FILES = PRECISION | {"run", "bench", "pack", "merge", "init", "compare", "record", "scan", "history"}
"""The commands that write files. The output of all others is what they print."""
START_PROCESSES = PRECISION | {"run", "bench", "pack", "audit", "explain", "init", "compare", "record", "scan"}
NEED_NO_WORKING_DIRECTORY = frozenset({"schema"})
HELP = frozenset({"-h", "--help"})

EXAMPLES = """
\b
Examples:
  harness compare model.onnx net.py:Net               is this file still this model?
  harness init Conv2d                                 write a first spec
  harness scan net.py:Net -o layers.yaml              write a spec with the layers of a model
  harness run specs/                                  verify everything on the default targets
  harness run specs/avgpool2d.yaml -k divisor         one family of cases
  harness run specs/ --targets 'onnx-dynamo@23/*'     targets by name, set or glob
  harness check specs/                                validate only; answers at once

\b
Shell completion, in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:
  eval "$(_HARNESS_COMPLETE=bash_source harness)"
  eval "$(_HARNESS_COMPLETE=zsh_source harness)"
  _HARNESS_COMPLETE=fish_source harness | source
"""


class _Uncaught(Exception):
    """Carries ``error`` through click, which would take a closed pipe or an end of file for an abort by the user."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Commands(CommandGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError:  # one of them is an OSError too
            raise
        except (OSError, EOFError, KeyboardInterrupt) as error:
            raise _Uncaught(error) from error


@click.group(
    cls=_Commands,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="harness")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Check whether an exported model still computes what the trained PyTorch model computes."""
    if HELP & {*(ctx.obj or ())}:
        return
    if ctx.invoked_subcommand not in NEED_NO_WORKING_DIRECTORY:
        require_working_directory()
        if os.path.exists("pyproject.toml"):  # noqa: PTH110 - pathlib is slower to import
            from harness.cli._defaults import default_map

            ctx.default_map = default_map(cli.commands)
    if ctx.invoked_subcommand in START_PROCESSES:
        from harness.engine.processes.limits import require_threads

        require_threads()


for module in iter_modules(__path__):
    # A module with an underscore has no commands, and is imported by those that need it.
    for command in (
        () if module.name.startswith("_") else getattr(import_module(f"{__name__}.{module.name}"), "COMMANDS", ())
    ):
        # click remembers a command's help option from its first use, which need not be through the group.
        command.context_settings.setdefault("help_option_names", ["-h", "--help"])
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code. Every error is printed as a line, never as a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    with Streams() as streams:
        try:
            with Signals() as signals:
                code = _call(words)
            if signals.received is not None and code < SIGNAL_EXIT_BASE:  # a library handled it and continued
                raise Interrupted(signals.received)
        except KeyboardInterrupt as error:
            by = interrupting_signal(error)
            echo("interrupted" if by == signal.SIGINT else f"interrupted by {by.name}", error=True)
            code = SIGNAL_EXIT_BASE + by
        if (failed := streams.failure()) is not None:
            echo(f"standard output: {failed.strerror}; the output is incomplete", error=True)
            code = code if words and words[0] in WRITE_FILES and not HELP & {*words} else HarnessError.exit_code
    sys.exit(code)


def _call(words: list[str]) -> int:
    """Call the command and return its exit code; print one line for an error."""
    call: Callable[..., Any] = cli.main
    try:
        code = call(args=words, prog_name="harness", standalone_mode=False, obj=tuple(words))
    except HarnessError as error:
        # The problems of files have a line each, any other error is one line.
        echo(str(error) if isinstance(error, SpecError) else one_line(str(error)), error=True)
        code = error.exit_code
    except ImportError as error:
        from harness.environment import import_problem

        echo(import_problem(error), error=True)
        code = HarnessError.exit_code
    except click.ClickException as error:
        echo(_usage_line(error), error=True)
        code = error.exit_code
    except click.Abort as error:
        raise error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else KeyboardInterrupt from error
    except SystemExit as error:
        code = error.code
    except _Uncaught as uncaught:
        if isinstance(uncaught.error, KeyboardInterrupt):
            raise uncaught.error from None
        echo(failure_line(uncaught.error), error=True)
        code = HarnessError.exit_code
    except Exception as error:  # noqa: BLE001 - a bug: it is reported as harness's own failure, with its traceback
        echo(failure_line(error), error=True)
        code = HarnessError.exit_code
    return code if isinstance(code, int) else 0


def _usage_line(error: click.ClickException) -> str:
    """Click's message about a wrong command line, in one line as all of harness's messages."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "harness"
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        from harness.spec.quoting import closest_name

        options = [name for param in error.ctx.command.params for name in param.opts if name.startswith("--")]
        closest = closest_name(error.option_name, options)
        message = f"no such option {error.option_name!r}" + (f"; did you mean {closest}?" if closest else "")
    else:
        message = " ".join(error.format_message().split()).removesuffix(".")
    return f"{command}: {message[:1].lower()}{message[1:]}; see {command} --help"
