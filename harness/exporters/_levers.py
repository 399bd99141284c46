"""Private names of torch, replaced for a while.

A name that a release of torch does not have switches its lever off, never the export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
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
    every = tuple(levers)
    there = _places(every)
    return {lever.name: lever.name in there for lever in every}


@contextmanager
def pulled(levers: Iterable[Lever]) -> Iterator[None]:
    """While open, the names of ``levers`` hold what their functions made of them; on leaving, torch is as it was."""
    every = tuple(levers)
    places = _places(every)
    before: list[tuple[Any, str, Any]] = []
    try:
        for lever in every:
            if lever.name in places:
                owner, name = places[lever.name]
                original = vars(owner).get(name, _INHERITED)
                before.append((owner, name, original))
                setattr(owner, name, lever.wrap(getattr(owner, name) if original is _INHERITED else original))
        yield
    finally:
        for owner, name, original in reversed(before):
            if original is _INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


_INHERITED = object()


def _places(levers: Sequence[Lever]) -> dict[str, tuple[Any, str]]:
    """The object that holds the name of each lever that can be pulled, and that name, by the lever's own."""
    found = {lever.name: _owner(lever) for lever in levers}
    return {
        lever.name: place
        for lever in levers
        if (place := found[lever.name]) is not None and found.get(lever.needs or lever.name) is not None
    }


def _owner(lever: Lever) -> tuple[Any, str] | None:
    """Where the lever's name stands; None where this release of torch has no such thing."""
    parents, _, name = lever.path.rpartition(".")
    owner = _holder(lever.module, parents)
    return (owner, name) if hasattr(owner, name) else None


@cache  # the same few for every export
def _holder(module: str, parents: str) -> Any:
    """What holds names in a module: the module itself, or what stands at ``parents``; None where there is none."""
    try:
        owner: Any = import_module(module)
        for parent in filter(None, parents.split(".")):
            owner = getattr(owner, parent)
    except (ImportError, AttributeError):
        return None
    return owner
