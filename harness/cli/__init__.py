"""The command line: arguments -> one call -> exit code; one command a file.

Every module here that is not private names its commands in ``COMMANDS``. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from harness import __version__
from harness.cli.options import CommandGroup
from harness.cli.process import Signals, Streams, failure_line, require_working_directory, say
from harness.environment import unsupported
from harness.errors import SIGNALLED, HarnessError, Interrupted, SpecError, interrupted_by, reason
from harness.report.wording import one_line

WRITE_FILES = frozenset({"run", "bench", "pack", "merge", "init"})
"""The commands that leave files; what the others print is all that there is of them."""
START_PROCESSES = frozenset({"run", "bench", "pack", "audit", "explain", "init"})
NEED_NO_FOLDER = frozenset({"schema"})
HELP = frozenset({"-h", "--help"})

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


class _Uncaught(Exception):
    """Carries ``error`` past click, which would take a closed pipe or an end of file for the user's doing."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Commands(CommandGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError:  # one of them is an OSError as well
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
    """Tell, with proof, whether the model that you exported is still the model that you trained."""
    if HELP & {*(ctx.obj or ())}:
        return
    if ctx.invoked_subcommand not in NEED_NO_FOLDER:
        require_working_directory()
    if ctx.invoked_subcommand in START_PROCESSES:
        from harness.engine.processes.limits import require_threads

        require_threads()


for module in iter_modules(__path__):
    for command in getattr(import_module(f"{__name__}.{module.name}"), "COMMANDS", ()):
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; whatever happens is a line, never a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    with Streams() as streams:
        try:
            with Signals() as signals:
                code = _called(words)
            if signals.received is not None and code < SIGNALLED:  # a library took it for its own and went on
                raise Interrupted(signals.received)
        except KeyboardInterrupt as error:
            by = interrupted_by(error)
            say("interrupted" if by == signal.SIGINT else f"interrupted by {by.name}", error=True)
            code = SIGNALLED + by
        if (failed := streams.failure()) is not None:
            say(f"standard output: {failed.strerror}; what was printed there is not whole", error=True)
            code = code if words and words[0] in WRITE_FILES and not HELP & {*words} else HarnessError.exit_code
    sys.exit(code)


def _called(words: list[str]) -> int:
    """The exit code of the command; what is wrong is said in a line."""
    call: Callable[..., Any] = cli.main
    try:
        code = call(args=words, prog_name="harness", standalone_mode=False, obj=tuple(words))
    except HarnessError as error:
        say(_lines_of(error), error=True)
        code = error.exit_code
    except ImportError as error:
        say(unsupported() or f"a library cannot be loaded: {reason(error)}; reinstall it with pip", error=True)
        code = HarnessError.exit_code
    except click.ClickException as error:
        say(_on_one_line(error), error=True)
        code = error.exit_code
    except click.Abort as error:
        raise error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else KeyboardInterrupt from error
    except SystemExit as error:
        code = error.code
    except _Uncaught as uncaught:
        if isinstance(uncaught.error, KeyboardInterrupt):
            raise uncaught.error from None
        say(failure_line(uncaught.error), error=True)
        code = HarnessError.exit_code
    except Exception as error:  # noqa: BLE001 - nobody expected it: it is told as harness's own failure, and kept
        say(failure_line(error), error=True)
        code = HarnessError.exit_code
    return code if isinstance(code, int) else 0


def _lines_of(error: HarnessError) -> str:
    """A line for each problem of files, and one for anything else."""
    return str(error) if isinstance(error, SpecError) else one_line(str(error))


def _on_one_line(error: click.ClickException) -> str:
    """What click has to say of the command line, as harness says what is wrong."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "harness"
    said = " ".join(error.format_message().split()).removesuffix(".")
    return f"{command}: {said[:1].lower()}{said[1:]}; {command} --help says what there is"
