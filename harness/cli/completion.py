"""What the shell offers after Tab: the words that an option takes here, from the specs that the line names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.spec.discover import Specs

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
    from harness.spec.discover import load

    # Where an option still waits for its word, click has not told arguments apart yet.
    paths = ctx.params.get("paths") or [word for word in ctx.args if Path(word).exists()]
    return load(paths or USUAL, allow_import=True)


def _quietly(known: Known, ctx: click.Context) -> Iterable[str]:
    """What is known, or nothing: somebody who pressed Tab has not asked what is wrong with the specs."""
    try:
        return known(ctx)
    except HarnessError:
        return ()
