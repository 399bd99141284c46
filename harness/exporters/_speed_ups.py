"""Speed-ups: private functions of torch and onnxscript, patched during an export.

If a release of torch does not have a name, or has it with other parameters, the speed-up is off and the export works
without it. If an export fails with speed-ups and succeeds without them, all are off for the rest of the process, and
every file that is exported without them has a note. A worker process is replaced then, so that this depends on the
export alone and not on those before it.
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


class SpeedUp(NamedTuple):
    """A patch of one private name.

    ``wrap`` takes the original object and returns the replacement. ``parameters`` are those that the replacement was
    written for. ``needs`` is the name of another speed-up that must be on, because this one reads its target.
    """

    name: str
    module: str
    path: str
    wrap: Callable[[Any], Any]
    parameters: tuple[str, ...] = ()
    needs: str | None = None


@dataclass
class _State:
    """The state of all speed-ups of this process.

    ``failure`` is why they are off, None while they are on. ``used`` is True once a speed-up was applied in the current
    export. ``only`` are the names of those that may be applied; None for all.
    """

    failure: str | None = None
    used: bool = False
    only: frozenset[str] | None = None


_STATE = _State()
_INHERITED = object()


def enabled(speed_ups: Iterable[SpeedUp]) -> dict[str, bool]:
    """Whether each speed-up is on, by name."""
    return {name: reason is None for name, reason in disabled_reasons(speed_ups).items()}


def disabled_reasons(speed_ups: Iterable[SpeedUp]) -> dict[str, str | None]:
    """Why each speed-up is off, by name; None if it is on."""
    speed_ups = tuple(speed_ups)
    reasons = {speed_up.name: _STATE.failure or _mismatch(speed_up) for speed_up in speed_ups}

    def needed_is_on(needed: str | None) -> bool:
        return needed is None or (needed in reasons and reasons[needed] is None)

    return {
        speed_up.name: reasons[speed_up.name]
        or (None if needed_is_on(speed_up.needs) else f"it needs {speed_up.needs}, which is off")
        for speed_up in speed_ups
    }


@contextmanager
def applied(speed_ups: Iterable[SpeedUp]) -> Iterator[bool]:
    """Apply the speed-ups inside the block; afterwards torch is as it was. Yields False if none of them is on."""
    speed_ups = tuple(each for each in speed_ups if _STATE.only is None or each.name in _STATE.only)
    targets = {} if _STATE.failure is not None else _targets(speed_ups)
    _STATE.used |= bool(targets)
    originals: list[tuple[Any, str, Any]] = []
    try:
        for speed_up in speed_ups:
            if speed_up.name in targets:
                owner, name = targets[speed_up.name]
                original = vars(owner).get(name, _INHERITED)
                originals.append((owner, name, original))
                setattr(owner, name, speed_up.wrap(getattr(owner, name) if original is _INHERITED else original))
        yield bool(targets)
    finally:
        for owner, name, original in reversed(originals):
            if original is _INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def with_fallback(
    export: Callable[[], T],
    *,
    is_final: Callable[[Exception], bool] = lambda _error: False,
    unrelated: Callable[[Exception], frozenset[str]] = lambda _error: frozenset(),
) -> T:
    """The result of ``export()`` with speed-ups; if it fails with them, the result without them.

    If the second attempt succeeds, the speed-ups caused the failure and stay off in this process. An exception for
    which ``is_final`` returns True is raised without a second attempt. ``unrelated`` are the names of the speed-ups
    that cannot have caused it; they stay on in the second attempt, which takes several times as long without them.
    """
    _STATE.used = False
    try:
        return export()
    except Exception as error:
        if not _STATE.used or isinstance(error, MemoryError) or is_final(error):
            raise
        first_error = error
    try:
        _STATE.only = unrelated(first_error)
        result = export()
    finally:
        _STATE.only = None
    message = (str(first_error).strip() or "no message").splitlines()[0]
    _STATE.failure = f"an export failed with speed-ups and not without: {type(first_error).__name__}: {message}"
    return result


def is_instance(error: Exception, module: str, path: str) -> bool:
    """Whether ``error`` is of the class with this private name; False where this release of torch has no such class."""
    kind = _owner(module, path)
    return isinstance(kind, type) and isinstance(error, kind)


def fallback_note() -> str | None:
    """A note for the artifact that speed-ups failed in this process; None while they are on."""
    if _STATE.failure is None:
        return None
    return f"exported without harness's speed-ups ({_STATE.failure}); harness doctor lists them"


def _targets(speed_ups: Sequence[SpeedUp]) -> dict[str, tuple[Any, str]]:
    """The object and the attribute that each applicable speed-up patches, by the name of the speed-up."""
    candidates = {speed_up.name: _target(speed_up) for speed_up in speed_ups if _mismatch(speed_up) is None}
    return {
        speed_up.name: target
        for speed_up in speed_ups
        if (target := candidates.get(speed_up.name)) is not None
        and candidates.get(speed_up.needs or speed_up.name) is not None
    }


def _mismatch(speed_up: SpeedUp) -> str | None:
    """Why the speed-up does not fit the installed torch; None if it fits."""
    target = _target(speed_up)
    if target is None:
        return f"this torch has no {speed_up.module}.{speed_up.path}"
    parameters = _parameters(_attribute(*target))
    if parameters != speed_up.parameters:
        return (
            f"{speed_up.path} takes ({', '.join(parameters)}) in this torch; "
            f"it is written for ({', '.join(speed_up.parameters)})"
        )
    return None


def _attribute(owner: Any, name: str) -> Any:
    attribute = vars(owner).get(name, _INHERITED)
    return getattr(owner, name) if attribute is _INHERITED else attribute


@lru_cache(maxsize=64)  # the same few for every export
def _parameters(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(getattr(function, "__func__", function)).parameters)
    except (TypeError, ValueError):
        return ("?",)


def _target(speed_up: SpeedUp) -> tuple[Any, str] | None:
    """The object and the attribute that the speed-up patches; None if this release of torch does not have them."""
    parents, _, name = speed_up.path.rpartition(".")
    owner = _owner(speed_up.module, parents)
    return (owner, name) if hasattr(owner, name) else None


@cache  # the same few for every export
def _owner(module: str, parents: str) -> Any:
    """The module itself, or the object at the dotted path ``parents`` in it; None if it does not exist."""
    try:
        owner: Any = import_module(module)
        for parent in filter(None, parents.split(".")):
            owner = getattr(owner, parent)
    except (ImportError, AttributeError):
        return None
    return owner
