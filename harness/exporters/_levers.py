"""Private names of torch, replaced for a while.

A name that a release of torch does not have switches its lever off, never the export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, NamedTuple


class Lever(NamedTuple):
    """One private name, and the function that wraps what it holds."""

    name: str
    module: str
    path: str
    wrap: Callable[[Any], Any]
    needs: str | None = None  # another lever, whose name this one reads


def present(levers: Iterable[Lever]) -> dict[str, bool]:
    """Which of ``levers``, by name, the installed torch has a place for."""
    there = {lever.name: (_owner(lever) is not None, lever.needs or lever.name) for lever in levers}
    return {name: found and there.get(needs, (False, ""))[0] for name, (found, needs) in there.items()}


@contextmanager
def pulled(levers: Iterable[Lever]) -> Iterator[None]:
    """While open, the names of ``levers`` hold what their functions made of them; on leaving, torch is as it was."""
    every = tuple(levers)
    holding = present(every)
    with ExitStack() as stack:
        for lever in every:
            place = _owner(lever) if holding[lever.name] else None
            if place is not None:
                stack.enter_context(_replaced(*place, lever.wrap))
        yield


def _owner(lever: Lever) -> tuple[Any, str] | None:
    """The object that holds the lever's name, and the name; None where this release of torch has no such thing."""
    try:
        owner = import_module(lever.module)
        *parents, name = lever.path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        getattr(owner, name)
    except (ImportError, AttributeError):
        return None
    return owner, name


@contextmanager
def _replaced(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    own = name in vars(owner)
    original = vars(owner)[name] if own else getattr(owner, name)
    setattr(owner, name, wrap(original))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)
