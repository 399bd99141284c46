"""What the shell offers after Tab: the words that an option takes here, from the specs that the line names.

The options that several commands share, and how their words are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.spec.discovery import Specs


Known = Callable[[click.Context], Iterable[str]]
Completion = Callable[[click.Context, click.Parameter, str], list[str]]
USUAL = ("specs",)


def words(known: Known) -> Completion:
    """Offer what begins with what is there already."""

    def complete(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
        return [word for word in _quietly(known, ctx) if word.startswith(begun)]

    return complete


def lists(known: Known) -> Completion:
    """The same for the last of several words between commas; a word that stands there is not offered again."""

    def complete(ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
        earlier, comma, last = begun.rpartition(",")
        left = (word for word in _quietly(known, ctx) if word not in earlier.split(","))
        return [f"{earlier}{comma}{word}" for word in left if word.startswith(last)]

    return complete


def targets(ctx: click.Context) -> Iterable[str]:
    """The sets of targets and the targets that there are for the specs."""
    sets = _specs(ctx).target_sets
    return dict.fromkeys([*sets.sets, *map(str, sets.all)])


def single_targets(ctx: click.Context) -> Iterable[str]:
    """The targets alone."""
    return map(str, _specs(ctx).target_sets.all)


def cases(ctx: click.Context) -> Iterable[str]:
    """The ids of the specs' cases."""
    return [case.id for case in _specs(ctx).cases]


def runtimes(_ctx: click.Context) -> Iterable[str]:
    """The runtimes that harness knows."""
    from harness.registry import plugins

    return plugins("runtimes")


def _specs(ctx: click.Context) -> Specs:
    """The specs that the line names so far; else those where they usually are."""
    from harness.spec.discovery import load

    # Where an option still waits for its word, click has not told arguments apart yet.
    paths = ctx.params.get("paths") or [word for word in ctx.args if Path(word).exists()]
    return load(paths or USUAL, allow_import=True)


def _quietly(known: Known, ctx: click.Context) -> Iterable[str]:
    """What is known, or nothing: somebody who pressed Tab has not asked what is wrong with the specs."""
    try:
        return known(ctx)
    except HarnessError:
        return ()


FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)
FORMATS = ("json", "md", "html", "junit", "csv", "github")


class CommandGroup(click.Group):
    """A group of commands; without a command it shows its help and exits 2, as no version of click before 8.2 does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read ``args``; leave with the help where there are none."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)


class WordList(click.ParamType):  # type: ignore[type-arg]  # it is generic since click 8.4 alone
    """Comma-separated words."""

    name = "words"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> tuple[str, ...]:
        """``a,b`` as ``("a", "b")``."""
        return value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(",") if word.strip())


def size(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """``512M``, ``4G`` or plain bytes."""
    if text is None:
        return None
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not re.fullmatch(r"[0-9]{1,18}", number) or int(number) == 0:
        raise UsageError(f"--memory {text}: not a size; write bytes, or a number with K, M, G or T, such as 4G")
    return int(number) * unit


class SpecPath(click.types.StringParamType):
    """A spec, a directory, or a recorded model; what was not given is asked for."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """What stands behind ``Missing argument``; click before 8.2 gives no ``ctx``."""
        return "Name a spec, or a directory of specs, such as specs/; harness init writes a first one."


PATHS = click.argument("paths", nargs=-1, required=True, type=SpecPath(), metavar="PATH...")
ALLOW_IMPORT = click.option(
    "--allow-import", is_flag=True, help="Let specs name a factory: it runs the code that it names."
)
TARGETS = click.option(
    "--targets",
    multiple=True,
    type=WordList(),
    shell_complete=lists(targets),
    metavar="LIST",
    help="Targets, sets of targets.yaml or globs, separated by commas. [default: the set named default]",
)
KEYWORDS = click.option(
    "-k",
    "keywords",
    multiple=True,
    shell_complete=words(cases),
    metavar="TEXT",
    help="Only cases whose id holds TEXT, or matches it as a glob.",
)


AT_LEAST_ONE = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)
FOLDER = click.Path(path_type=Path)
EFFECT = click.option(
    "--min-effect",
    type=click.FloatRange(min=0),
    default=0.03,
    show_default=True,
    metavar="R",
    help="The least relative change of a latency that counts.",
)
DEFAULT_TIMEOUT = "120, and 60 more for each GiB of the model"


def timeout(about: str) -> Callable[[FC], FC]:
    """The option ``--timeout`` of a command; None where it is not given, which lets the limit grow with the model."""
    return click.option("--timeout", type=SECONDS, metavar="S", help=f"{about} [default: {DEFAULT_TIMEOUT}]")


CARRYING_OUT = (
    PATHS,
    TARGETS,
    KEYWORDS,
    click.option("--shard", metavar="I/N", help="Run part I of N."),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where checks run: on this machine, or on a Ray cluster.",
    ),
    click.option(
        "--ray-address", metavar="ADDRESS", help="HOST:PORT of the cluster. [default: the one that Ray finds]"
    ),
    click.option(
        "--ray-resource",
        multiple=True,
        metavar="GLOB=NAME",
        help="Targets that belong to machines with a custom resource, such as '*/ort-acl=jetson'.",
    ),
    click.option("-j", "--jobs", type=AT_LEAST_ONE, metavar="N", help="Workers. [default: the cores]"),
    click.option("--report-dir", type=FOLDER, default="reports/latest", show_default=True),
    click.option(
        "--format",
        "formats",
        type=WordList(),
        shell_complete=lists(lambda _: FORMATS),
        default="json,md,html",
        show_default=True,
        help=f"Any of {', '.join(FORMATS)}.",
    ),
    click.option(
        "--known-failures", type=FOLDER, metavar="FILE", help="[default: known-failures.yaml beside the specs]"
    ),
    click.option(
        "--require",
        multiple=True,
        type=WordList(),
        shell_complete=lists(runtimes),
        metavar="RUNTIME",
        help="Exit 3 where this runtime is missing.",
    ),
    click.option(
        "--baseline", type=FOLDER, metavar="REPORT.json", help="Exit 1 where a check is worse or slower than there."
    ),
    EFFECT,
    timeout("Seconds a check may take."),
    click.option("--memory", callback=size, metavar="SIZE", help="Memory a check may take, such as 4G."),
    click.option("--strict-ulp", type=click.IntRange(min=0), metavar="N", help="Hold every output to N ULP."),
    click.option("--no-cache", is_flag=True, help="Export everything anew, and keep nothing."),
    click.option("--resume", is_flag=True, help="Go on with a run that was interrupted."),
    ALLOW_IMPORT,
)


def carrying_out(command: Callable[..., int]) -> Callable[..., int]:
    """Give ``command`` the options of everything that verifies."""
    for option in reversed(CARRYING_OUT):
        command = option(command)
    return command


def flat(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The words of an option that may be given several times, each time with several words."""
    return tuple(word for words in lists for word in words)
