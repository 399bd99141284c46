"""The names of arguments: what Python calls the options of the command line, in errors and in old code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from harness.check.settings import LARGEST
from harness.errors import RequestError, RuntimeMissing, SpecError, UsageError

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


def require_numbers(least: int, *, whole: bool = False, above: bool = False, **arguments: object) -> None:
    """Raise :class:`UsageError` for the first of ``arguments`` that is neither None nor a number in its range.

    With ``above``, ``least`` itself is out of range.
    """
    for name, value in arguments.items():
        is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if value is None or (is_number and (value > least or (value == least and not above))):  # type: ignore[operator]
            if isinstance(value, int | float) and not whole and value > LARGEST:
                raise UsageError(f"{name}: a number of at most {LARGEST:,.0f} is expected, not {value}")
            continue
        what = "a whole number" if whole else "a number"
        raise UsageError(f"{name}: {what} {'above' if above else 'of at least'} {least} is expected, not {value!r}")


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
