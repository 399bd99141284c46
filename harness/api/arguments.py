"""The arguments of Python's functions: what the options of the command line are called, in errors and in old code.

Also their values, as plain data, numbers and arrays.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.settings import LARGEST
from harness.errors import RequestError, RuntimeMissing, SpecError, UsageError

Array = NDArray[Any]

SHORT = {"k": "keywords", "j": "jobs"}


def with_current_names(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The arguments ``given`` under old ``names``, by their current ones.

    Raises ``TypeError`` for any other name, as Python itself does.
    """
    for old in given:
        if old not in names:
            raise TypeError(f"run() got an unexpected keyword argument {old!r}")
        warnings.warn(f"harness.run({old}=...) is called {names[old]} now", DeprecationWarning, stacklevel=3)
    return {names[old]: value for old, value in given.items()}


def whole_numbers(least: int, **arguments: object) -> tuple[int | None, ...]:
    """The ``arguments`` as Python's own integers, in their order; None stays None.

    Raises :class:`UsageError` for the first that is neither None nor an integer of at least ``least``.
    """
    for name, value in arguments.items():
        if value is not None and not (_is_number(value, Integral) and value >= least):  # type: ignore[operator]
            raise UsageError(f"{name}: a whole number of at least {least} is expected, not {value!r}")
    return tuple(None if value is None else int(value) for value in arguments.values())  # type: ignore[call-overload]


def number(name: str, value: object, least: float, *, above: bool = False) -> float:
    """``value`` as a Python number. ``above`` excludes ``least``.

    Raises :class:`UsageError` if it is no number in the range.
    """
    if not _is_number(value, Real) or not (value > least or (value == least and not above)):  # type: ignore[operator]
        raise UsageError(f"{name}: a number {'above' if above else 'of at least'} {least} is expected, not {value!r}")
    if value > LARGEST:  # type: ignore[operator]
        raise UsageError(f"{name}: a number of at most {LARGEST:,.0f} is expected, not {value}")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object, kind: type[Real | Integral]) -> bool:
    """Whether ``value`` is a number of that kind; NumPy's are, a truth value is not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """``value`` with Python's own numbers in place of NumPy's, in mappings and lists too."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


@contextmanager
def errors_about_arguments() -> Iterator[None]:
    """In this context, an error about an option of the command line is one about the argument of that name."""
    try:
        yield
    except SpecError as error:
        about = (replace(each, remedy=_with_arguments(each.remedy)) for each in error.problems)
        raise SpecError(about) from None
    except (RequestError, RuntimeMissing) as error:
        raise type(error)(_with_arguments(str(error))) from None


def _with_arguments(text: str) -> str:
    """``text`` with the names of arguments instead of those of options."""
    text = text.replace("pass --allow-import", "pass allow_import=True")
    text = re.sub(r"(?<!\S)-([kj])\b", lambda match: SHORT[match[1]], text)
    return re.sub(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)", lambda match: match[1].replace("-", "_"), text)


def arrays(outputs: Any) -> dict[str, Array]:
    """Outputs by name. ``outputs`` is an array or tensor, a sequence, or a mapping by name.

    Raises :class:`UsageError` for anything else.
    """
    if isinstance(outputs, Mapping):
        return {str(name): _array(value) for name, value in outputs.items()}
    if isinstance(outputs, Sequence) and not isinstance(outputs, str | bytes):
        return {f"output_{index}": _array(value) for index, value in enumerate(outputs)}
    return {"output_0": _array(outputs)}


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach"):
        from harness.model.tensors import to_numpy

        return to_numpy(value)
    raise UsageError(f"outputs: {type(value).__name__} is not an array; give NumPy arrays or tensors")
