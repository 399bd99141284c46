"""``harness init``: write a first spec for a module, from its signature and from trial calls in eager torch.

:mod:`constructor` finds the layer or factory, :mod:`propose` tries arguments and inputs. :func:`first_spec` writes the
spec; it is called in a separate process, because it may run the user's own code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import UsageError
from harness.result import Stage
from harness.spec.language.schema import SCHEMA_FILE

if TYPE_CHECKING:
    from harness.scaffold.constructor import Constructor
    from harness.scaffold.inputs import StoredInput
    from harness.scaffold.propose import Proposal

HEADER = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# A first spec, written by `harness init`. All of its arguments and inputs were tried in eager PyTorch.
# Add what your model meets: shapes, dtypes, edge cases such as NaN and empty batches, and what must hold (`expect`).
harness: 1
"""

FILE_HEADER = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# A first spec, written by `harness init`. All of its cases were run. The reference is the file itself, without graph
# optimization. To compare it with the module that it was exported from, write `factory: net.py:Net` in place of `file`.
harness: 1
"""


@dataclass(frozen=True, slots=True)
class FirstSpec:
    """The text of a spec, and whether ``harness run`` needs ``--allow-import`` for it."""

    text: str
    runs_user_code: bool


@dataclass(frozen=True, slots=True)
class NoSpec:
    """Why there is no spec, and what to do about it."""

    reason: str


def first_spec(
    _scratch: Path,
    name: str,
    arguments: Mapping[str, Any],
    inputs: Sequence[tuple[tuple[int, ...], str]],
    home: Path,
    data: Path | None = None,
    output: Path | None = None,
    *,
    announce: Callable[[Stage], None],
) -> FirstSpec | NoSpec:
    """The first spec of the layer or module ``name``, which is imported from the folder ``home``.

    ``inputs`` are the shapes and the kinds of the inputs, if the user gave them; ``data`` is a file of inputs, which
    the spec at ``output`` names. Without either, inputs are guessed.
    """
    from harness.check.stages import message_of
    from harness.scaffold.constructor import find_constructor
    from harness.scaffold.inputs import InputGuess
    from harness.scaffold.propose import propose

    os.chdir(home)
    announce("build")
    try:
        constructor = find_constructor(name)
        stored = {} if data is None or output is None else _stored_inputs(data, output)
        guesses = [InputGuess(*shape_and_kind) for shape_and_kind in inputs]
        proposal = propose(constructor, arguments, guesses, stored)
        return FirstSpec(spec_text(constructor, proposal), constructor.kind == "factory")
    except UsageError as error:
        return NoSpec(str(error))
    except BaseException as error:  # noqa: BLE001 - another guess would not help, for example after exit()
        return NoSpec(f"{name}: {message_of(error)}; make sure that it can be built and called in Python")


def _stored_inputs(data: Path, output: Path) -> dict[str, StoredInput]:
    """The inputs in the file ``data`` by label. Raises :class:`UsageError`."""
    from harness.data_files import UNNAMED, stored_arrays
    from harness.model.tensors import to_torch
    from harness.scaffold.inputs import StoredInput
    from harness.spec.discovery import spec_folder

    folder = spec_folder(output)
    assert folder.folder is not None
    name = os.path.relpath(data, folder.folder)
    stored = stored_arrays(data)
    try:
        folder.file(name)
    except UsageError as error:
        raise UsageError(f"-o {output}: {error}, or write the spec beside it") from None
    return {
        key or "x": StoredInput(
            to_torch(array.read()),
            {"file": name} | ({} if key == UNNAMED else {"key": key}) | {"dtype": array.dtype.name},
        )
        for key, array in stored.items()
    }


def spec_text(constructor: Constructor, proposal: Proposal) -> str:
    """The text of the spec of ``constructor``, with everything in ``proposal``."""
    return HEADER + "\n".join(_lines(constructor, proposal)) + "\n"


def _lines(constructor: Constructor, proposal: Proposal) -> Iterator[str]:
    yield f"about: {constructor.short_name}, one argument at a time."
    yield f"{constructor.kind}: {constructor.name}"
    yield "defaults:"
    if proposal.arguments:
        yield f"  args: {flow(proposal.arguments)}"
    yield f"  inputs: {flow({label: guess.spec_entry() for label, guess in proposal.inputs.items()})}"
    yield "cases:"
    yield "  - name: as-it-is"
    yield "    about: All arguments at their defaults."
    for variation in proposal.variations:
        single = {variation.name: variation.values[0]} if len(variation.values) == 1 else {}
        yield ""
        yield f"  - name: {variation.name.replace('_', '-').strip('-')}"
        if arguments := {**variation.companions, **single}:
            yield f"    args: {flow(arguments)}"
        if not single:
            yield f"    matrix: {flow({f'args.{variation.name}': list(variation.values)})}"
    for call in proposal.calls:
        yield ""
        yield f"  - name: {call.name.replace('_', '-').strip('-')}"
        if call.inputs:
            yield f"    inputs: {flow(call.inputs)}"
        if call.constants:
            yield f"    forward: {flow(call.constants)}"
    if len(proposal.batch_sizes) > 1:
        yield ""
        yield from _any_batch(proposal)


def _any_batch(proposal: Proposal) -> Iterator[str]:
    yield "  - name: any-batch"
    yield "    about: Exported once with a dynamic first axis, and verified at other batch sizes."
    yield f"    dynamic: {flow({label: {0: 'N'} for label in proposal.inputs})}"
    also = [
        {label: [size, *guess.shape[1:]] for label, guess in proposal.inputs.items()} for size in proposal.batch_sizes
    ]
    yield f"    also: {flow(also)}"


def flow(value: Any) -> str:
    """``value`` as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()
