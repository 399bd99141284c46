"""A first spec as it is asked for from outside: in a process of its own, since it runs a module of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.result import Stage


@dataclass(frozen=True, slots=True)
class FirstSpec:
    """The text of a spec, and whether it takes ``--allow-import`` to run it."""

    text: str
    runs_own_code: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no spec, and why: what is wrong, and what would be right."""

    why: str


def first_spec(
    _scratch: Path,
    named: str,
    arguments: Mapping[str, Any],
    inputs: Sequence[tuple[tuple[int, ...], str]],
    home: Path,
    *,
    announce: Callable[[Stage], None],
) -> FirstSpec | Refused:
    """The first spec of the layer or module that is ``named``, imported from the folder ``home``.

    ``inputs`` are shapes, each with what fills it, for those that are not to be guessed.
    """
    from harness.starter.guesses import Draft
    from harness.starter.subject import find
    from harness.starter.trying import find_out
    from harness.starter.writing import text
    from harness.verify.stages import message_of

    os.chdir(home)
    announce("build")
    try:
        subject, drafts = find(named), [Draft(*each) for each in inputs]
        return FirstSpec(text(subject, find_out(subject, arguments, drafts)), subject.kind == "factory")
    except UsageError as error:
        return Refused(str(error))
    except BaseException as error:  # noqa: BLE001 - what no other guess would change is told, such as exit()
        return Refused(f"{named}: {message_of(error)}; see that it can be built and called in Python")
