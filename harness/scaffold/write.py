"""A first spec as it is asked for from outside: in a process of its own, since it runs a module of the user's.

The text of a first spec.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError
from harness.result import Stage
from harness.scaffold.propose import Found
from harness.scaffold.subject import Subject
from harness.spec.language.schema import SCHEMA_FILE


@dataclass(frozen=True, slots=True)
class FirstSpec:
    """The text of a spec, and whether it takes ``--allow-import`` to run it."""

    text: str
    runs_user_code: bool


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
    from harness.check.stages import message_of
    from harness.scaffold.propose import Draft, find_out
    from harness.scaffold.subject import find

    os.chdir(home)
    announce("build")
    try:
        subject, drafts = find(named), [Draft(*each) for each in inputs]
        return FirstSpec(text(subject, find_out(subject, arguments, drafts)), subject.kind == "factory")
    except UsageError as error:
        return Refused(str(error))
    except BaseException as error:  # noqa: BLE001 - what no other guess would change is told, such as exit()
        return Refused(f"{named}: {message_of(error)}; see that it can be built and called in Python")


HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# A first spec, written by `harness init`: everything in it was tried in eager PyTorch. Add what your model meets:
# shapes, dtypes, edges such as NaN and empty batches, and under `expect` what must hold.
harness: 1
"""


def text(subject: Subject, found: Found) -> str:
    """The spec of ``subject`` with what was ``found`` to work."""
    return HEAD + "\n".join(_lines(subject, found)) + "\n"


def _lines(subject: Subject, found: Found) -> Iterator[str]:
    yield f"about: {subject.short}, one argument at a time."
    yield f"{subject.kind}: {subject.named}"
    yield "defaults:"
    if found.arguments:
        yield f"  args: {_flow(found.arguments)}"
    yield f"  inputs: {_flow({label: draft.written() for label, draft in found.inputs.items()})}"
    yield "cases:"
    yield "  - name: as-it-is"
    yield "    about: Nothing said that has a default."
    for varied in found.varied:
        one = {varied.name: varied.values[0]} if len(varied.values) == 1 else {}
        yield ""
        yield f"  - name: {varied.name.replace('_', '-').strip('-')}"
        if arguments := {**varied.beside, **one}:
            yield f"    args: {_flow(arguments)}"
        if not one:
            yield f"    matrix: {_flow({f'args.{varied.name}': list(varied.values)})}"
    if len(found.batches) > 1:
        yield ""
        yield from _any_batch(found)


def _any_batch(found: Found) -> Iterator[str]:
    yield "  - name: any-batch"
    yield "    about: Exported once with its first axis open, and verified at other sizes of it."
    yield f"    dynamic: {_flow({label: {0: 'N'} for label in found.inputs})}"
    also = [{label: [size, *draft.shape[1:]] for label, draft in found.inputs.items()} for size in found.batches]
    yield f"    also: {_flow(also)}"


def _flow(value: Any) -> str:
    """``value`` on one line."""
    written: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100_000, allow_unicode=True)
    return written.removesuffix("\n...\n").strip()
