"""Options that several commands share: their declarations, their types, and their shell completion."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.check.settings import LARGEST, MEMORY_PER_BYTE
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.spec.discovery import Specs


# Shell completion: the words that an option takes, read from the specs that the command line names

Words = Callable[[click.Context], Iterable[str]]
Completion = Callable[[click.Context, click.Parameter, str], list[str]]
DEFAULT_PATHS = ("specs",)


def complete_word(words: Words) -> Completion:
    """Complete one word."""

    def complete(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
        return [word for word in _words_or_nothing(words, ctx) if word.startswith(begun)]

    return complete


def complete_list(words: Words) -> Completion:
    """Complete the last of several words between commas; words that the list has already are not offered again."""

    def complete(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
        earlier, comma, last = begun.rpartition(",")
        left = (word for word in _words_or_nothing(words, ctx) if word not in earlier.split(","))
        return [f"{earlier}{comma}{word}" for word in left if word.startswith(last)]

    return complete


def target_words(ctx: click.Context) -> Iterable[str]:
    """The target sets and the targets of the specs."""
    sets = _specs(ctx).target_sets
    return dict.fromkeys([*sets.sets, *map(str, sets.all)])


def single_target_words(ctx: click.Context) -> Iterable[str]:
    """The targets of the specs, without the sets."""
    return map(str, _specs(ctx).target_sets.all)


def case_words(ctx: click.Context) -> Iterable[str]:
    """The ids of the specs' cases."""
    return [case.id for case in _specs(ctx).cases]


def runtime_words(_ctx: click.Context) -> Iterable[str]:
    """The names of all runtimes."""
    from harness.registry import plugins

    return plugins("runtimes")


def format_words(_ctx: click.Context) -> Iterable[str]:
    """The report formats: harness's own in the order of the help, then those of plugins."""
    from harness.registry import plugins

    return dict.fromkeys([*FORMATS, *plugins("report")])


def _specs(ctx: click.Context) -> Specs:
    """The specs that the command line names so far, or those in the default folder."""
    from harness.spec.discovery import load_specs

    # While an option has no value yet, click has not separated the arguments.
    paths = ctx.params.get("paths") or [word for word in ctx.args if Path(word).exists()]
    return load_specs(paths or DEFAULT_PATHS, allow_import=True)


def _words_or_nothing(words: Words, ctx: click.Context) -> Iterable[str]:
    """The words, or nothing if the specs are invalid: completion is no place for error messages."""
    try:
        return words(ctx)
    except HarnessError:
        return ()


# Types

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)
FORMATS = (
    *("json", "md", "html", "junit", "csv", "layers", "model-explorer", "github"),
    *("bencher", "github-action-benchmark"),
)
"""harness's own report formats, for the help; plugins add further ones."""


class CommandGroup(click.Group):
    """A group of commands. Without a command it prints its help and exits 2, which click does only since 8.2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse ``args``; print the help and exit if there are none."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` begin with. Raises ``UsageError`` with the closest name if there is none."""
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and args[0][:1] != "-":
            from harness.spec.quoting import closest_name

            closest = closest_name(args[0], self.list_commands(ctx))
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {closest}?" if closest else ""))
        return super().resolve_command(ctx, args)


class WordList(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """Comma-separated words."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """``a,b`` as ``("a", "b")``. A list without a word names nothing, which is never what was meant."""
        words = value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(",") if word.strip())
        return words or self.fail("it names nothing; name one, or leave the option out", param, ctx)


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; the error names what is expected."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"a whole number{_bounds(self)} is expected, not {value}", param, ctx)


class Number(click.FloatRange):
    """A number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; the error names what is expected."""
        try:
            number = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"a number{_bounds(self)} is expected, not {value}", param, ctx)
        if not number <= LARGEST:  # NaN is not either
            self.fail(f"a number of at most {LARGEST:,.0f} is expected, not {value}", param, ctx)
        return number


def _bounds(range_: click.IntRange | click.FloatRange) -> str:
    if range_.max is not None:
        return f" from {range_.min} to {range_.max}"
    return f" above {range_.min}" if range_.min_open else f" of at least {range_.min}"


def given_paths(ctx: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> tuple[str, ...]:
    """The paths of the command line, or those of ``[tool.harness]``. Raises ``MissingParameter`` if there are none."""
    if not (paths := paths or tuple(ctx.lookup_default("paths") or ())) and not ctx.resilient_parsing:
        hint = "Name a spec, or a folder of specs, such as specs/; harness init writes a first one."
        raise click.MissingParameter(hint, ctx, param)
    return paths


def parse_size(_ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """The number of bytes of ``512M``, ``4G`` or a plain number."""
    if text is None:
        return None
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not re.fullmatch(r"[0-9]{1,18}", number) or int(number) == 0:
        raise UsageError(f"{param.opts[0]} {text}: not a size; write bytes, or a number with K, M, G or T, such as 4G")
    return int(number) * unit


def flat(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The words of an option that can be given several times, each time with several words."""
    return tuple(word for words in lists for word in words)


# Options

PATHS = click.argument("paths", nargs=-1, callback=given_paths, metavar="PATH...")
ALLOW_IMPORT = click.option(
    "--allow-import", is_flag=True, help="Allow specs with a factory. This runs the code that they name."
)
TARGETS = click.option(
    "--targets",
    multiple=True,
    type=WordList(),
    shell_complete=complete_list(target_words),
    metavar="LIST",
    help="Targets, sets of targets.yaml or globs, separated by commas. [default: the set named default]",
)
KEYWORDS = click.option(
    "-k",
    "--keywords",
    multiple=True,
    shell_complete=complete_word(case_words),
    metavar="TEXT",
    help="Only cases whose id contains TEXT, or matches it as a glob. Repeat it for more cases.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
AT_LEAST_ONE = WholeNumber(min=1)
SECONDS = Number(min=0, min_open=True)
FOLDER = click.Path(path_type=Path)
GATE = click.option(
    "--gate",
    "gate",
    type=WordList(),
    metavar="LIST",
    help="Compare these too, of harness bench: any of load, first, memory (session, first run, peak).",
)
EFFECT = click.option(
    "--min-effect",
    type=Number(min=0),
    default=0.03,
    show_default=True,
    metavar="R",
    help="Smallest relative change of a latency that counts.",
)
JOBS = click.option("-j", "--jobs", type=AT_LEAST_ONE, metavar="N", help="Worker processes. [default: number of cores]")
KNOWN_FAILURES = click.option(
    "--known-failures",
    type=FOLDER,
    metavar="FILE",
    help="List of known failures. [default: known-failures.yaml beside the specs]",
)
NO_CACHE = click.option("--no-cache", is_flag=True, help="Export everything again; neither read nor write the cache.")
REPORT_DIR = click.option(
    "-o",
    "--report-dir",
    type=FOLDER,
    default="reports/latest",
    show_default=True,
    metavar="DIR",
    help="Folder for the reports.",
)
REPORT_FORMATS = click.option(
    "--format",
    "formats",
    type=WordList(),
    shell_complete=complete_list(format_words),
    default="json,md,html",
    show_default=True,
    metavar="LIST",
    help=f"Report formats: any of {', '.join(FORMATS)}, or a plugin's.",
)
DEFAULT_TIMEOUT = "120, and 60 more for each GiB of the model"


def timeout_option(help_text: str) -> Callable[[FC], FC]:
    """The option ``--timeout`` of a command. None, the default, makes the limit grow with the size of the model."""
    return click.option("--timeout", type=SECONDS, metavar="S", help=f"{help_text} [default: {DEFAULT_TIMEOUT}]")


STRICT = click.option("--strict", is_flag=True, help="Fail checks whose pass is inconclusive.")
STRICT_ULP = click.option("--strict-ulp", type=WholeNumber(min=0), metavar="N", help="Limit every tolerance to N ULP.")


_RUN_OPTIONS = (
    PATHS,
    TARGETS,
    KEYWORDS,
    click.option(
        "--lf", is_flag=True, help="Only checks that were not as expected in the last report of --report-dir."
    ),
    click.option("--shard", metavar="I/N", help="Run part I of N."),
    click.option("--dry-run", is_flag=True, help="List the checks, and run none."),
    click.option("-x", "maxfail", flag_value=1, type=int, help="Stop after the first check that is not as expected."),
    click.option(
        "--maxfail",
        type=AT_LEAST_ONE,
        metavar="N",
        help="Stop after N checks that are not as expected. [default: never]",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print only what is not as expected, and the verdict."),
    click.option("-v", "--verbose", is_flag=True, help="Print a line for each check as it ends."),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Run checks on this machine, or on a Ray cluster.",
    ),
    click.option(
        "--ray-address", metavar="ADDRESS", help="HOST:PORT of the cluster. [default: the one that Ray finds]"
    ),
    click.option(
        "--ray-resource",
        multiple=True,
        metavar="GLOB=NAME",
        help="Run targets that match GLOB on machines with the custom resource NAME, such as '*/ort-acl=jetson'.",
    ),
    JOBS,
    REPORT_DIR,
    REPORT_FORMATS,
    click.option("--open", "open_report", is_flag=True, help="Open report.html in the browser at the end."),
    KNOWN_FAILURES,
    click.option(
        "--require",
        multiple=True,
        type=WordList(),
        shell_complete=complete_list(runtime_words),
        metavar="RUNTIME",
        help="Exit 3 if this runtime is missing.",
    ),
    click.option(
        "--baseline",
        type=FOLDER,
        metavar="REPORT.json",
        help="Compare with this report; exit 1 if a check is worse or slower.",
    ),
    EFFECT,
    GATE,
    timeout_option("Seconds per check."),
    click.option(
        "--memory",
        callback=parse_size,
        metavar="SIZE",
        help=f"Memory per check, such as 4G, and {MEMORY_PER_BYTE} times the size of the model. [default: no limit]",
    ),
    STRICT,
    STRICT_ULP,
    NO_CACHE,
    click.option("--resume", is_flag=True, help="Continue an interrupted run."),
    ALLOW_IMPORT,
)


def run_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that ``harness run`` and ``harness bench`` share."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command
