"""Private names of torch, replaced for a while.

A name that a release of torch does not have, or has with other parameters, switches its lever off, never the export.
Where an export fails with the levers and not without them, they are off for the rest of the process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Lever(NamedTuple):
    """One private name, the function that wraps what it holds, and the parameters that it was written for."""

    name: str
    module: str
    path: str
    wrap: Callable[[Any], Any]
    takes: tuple[str, ...] = ()
    needs: str | None = None  # another lever, whose name this one reads


@dataclass
class _Switch:
    """Of all levers of this process: ``failure`` is why they are off, ``told`` whether a row says so.

    ``pulled`` is True once any of them was pulled for the export at hand; ``paused`` keeps that from happening.
    """

    failure: str | None = None
    told: bool = False
    pulled: bool = False
    paused: bool = False


_SWITCH = _Switch()


def present(levers: Iterable[Lever]) -> dict[str, bool]:
    """Which of ``levers``, by name, are on."""
    return {name: why is None for name, why in reasons(levers).items()}


def reasons(levers: Iterable[Lever]) -> dict[str, str | None]:
    """Why each of ``levers`` is off, by its name; None where it is on."""
    every = tuple(levers)
    own = {lever.name: _SWITCH.failure or _misfit(lever) for lever in every}
    return {
        lever.name: own[lever.name] or (None if _has(own, lever.needs) else f"it needs {lever.needs}, which is off")
        for lever in every
    }


def fall_back(export: Callable[[], T], *, believed: Callable[[Exception], bool] = lambda _error: False) -> T:
    """What ``export`` gives with the levers; where it fails with them, what it gives without.

    Where that succeeds it was the levers that failed, and they stay off in this process. Failures that are
    ``believed`` are not tried again.
    """
    _SWITCH.pulled = False
    try:
        return export()
    except Exception as error:
        if not _SWITCH.pulled or isinstance(error, MemoryError) or believed(error):
            raise
        failed = error
    try:
        _SWITCH.paused = True
        given = export()
    finally:
        _SWITCH.paused = False
    first = (str(failed).strip() or "no message").splitlines()[0]
    _SWITCH.failure = f"an export failed with it and not without: {type(failed).__name__}: {first}"
    return given


def news() -> str | None:
    """What a row should say of levers that failed: once in a process."""
    if _SWITCH.failure is None or _SWITCH.told:
        return None
    _SWITCH.told = True
    return f"exported without harness's speed-ups ({_SWITCH.failure}); harness doctor lists them"


@contextmanager
def pulled(levers: Iterable[Lever]) -> Iterator[bool]:
    """While open, the names of ``levers`` hold what their functions made of them; on leaving, torch is as it was.

    Gives False where none of them is on.
    """
    every = tuple(levers)
    places = {} if _SWITCH.paused or _SWITCH.failure is not None else _places(every)
    _SWITCH.pulled |= bool(places)
    before: list[tuple[Any, str, Any]] = []
    try:
        for lever in every:
            if lever.name in places:
                owner, name = places[lever.name]
                original = vars(owner).get(name, _INHERITED)
                before.append((owner, name, original))
                setattr(owner, name, lever.wrap(getattr(owner, name) if original is _INHERITED else original))
        yield bool(places)
    finally:
        for owner, name, original in reversed(before):
            if original is _INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


_INHERITED = object()


def _places(levers: Sequence[Lever]) -> dict[str, tuple[Any, str]]:
    """The object that holds the name of each lever that can be pulled, and that name, by the lever's own."""
    found = {lever.name: _owner(lever) for lever in levers if _misfit(lever) is None}
    return {
        lever.name: place
        for lever in levers
        if (place := found.get(lever.name)) is not None and found.get(lever.needs or lever.name) is not None
    }


def _has(own: dict[str, str | None], needed: str | None) -> bool:
    return needed is None or (needed in own and own[needed] is None)


def _misfit(lever: Lever) -> str | None:
    """Why the installed torch has no place for the lever; None where it has."""
    place = _owner(lever)
    if place is None:
        return f"this torch has no {lever.module}.{lever.path}"
    takes = _parameters(_held(*place))
    if takes != lever.takes:
        return f"{lever.path} takes ({', '.join(takes)}) in this torch; it is written for ({', '.join(lever.takes)})"
    return None


def _held(owner: Any, name: str) -> Any:
    held = vars(owner).get(name, _INHERITED)
    return getattr(owner, name) if held is _INHERITED else held


@lru_cache(maxsize=64)  # the same few for every export
def _parameters(held: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(getattr(held, "__func__", held)).parameters)
    except (TypeError, ValueError):
        return ("?",)


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
