"""What a process that will fork workers does once, so that each of them exports quickly from the first time on.

Keeps what torch's dynamo exporter works out anew for every export, though it is the same each time.

A tiny export takes half a second, nearly all of it spent on tables that do not depend on the
model: the registry of ONNX functions, the composite operators, the decomposition table, and the
kernels that are swapped for its sake. :func:`quick` keeps each of them while it is open, and
:func:`prepare` fills them once, before workers are forked.

The names are private to torch; :func:`levers` tells which of them this release has. What a lever
hands out is a copy, so a translation table given to one export cannot reach the next; what it
keeps is thrown away as soon as the tables that it was made from have changed. What the exports of
one model share is kept by :mod:`harness.exporters._dynamo_sharing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from harness.exporters import _dynamo_sharing
from harness.exporters._levers import Lever, fall_back, present, pulled, reasons

__all__ = ["PREPARED", "prepare", "speed_ups"]

PREPARED = frozenset({"onnx-dynamo", "onnx-torchscript"})
"""The exporters that it makes quicker: both load much of torch when they are first used."""


def speed_ups() -> dict[str, str | None]:
    """Why each speed-up of the dynamo exporter is off with the installed torch, by its name; None where it is on.

    Loads torch and tries them on a tiny export. Raises what that raises without them as well.
    """
    try_out()
    return {**why_off(), **_dynamo_sharing.why_off()}


Table = dict[Any, Any]


@dataclass
class _Kept:
    """What lives between exports; one a process, inherited by forked workers."""

    registries: dict[int, Any] = field(default_factory=dict)
    torchlib: list[Any] | None = None
    registrations: list[str] | None = None
    composites: frozenset[Any] = frozenset()
    decompositions: list[tuple[Any, Table]] = field(default_factory=list)
    splits: list[tuple[Table, frozenset[Any], tuple[Table, Table]]] = field(default_factory=list)
    overrides: list[_Override] = field(default_factory=list)


@dataclass(frozen=True)
class _Override:
    """The kernels and fake rules of the composite operators, before they were swapped and while they were."""

    asked: Table
    before: Table
    rules_before: Table
    during: Table
    rules_during: Table


_KEPT = _Kept()
_MOST_TABLES = 8  # one per opset and per set of fixes is all that a run needs


def _keep(table: list[Any], entry: Any) -> None:
    table.append(entry)
    del table[:-_MOST_TABLES]


def _kept_registry(original: Any) -> Any:
    def from_torchlib(cls: Any, opset_version: int = 18) -> Any:
        if opset_version not in _KEPT.registries:
            _KEPT.registries[opset_version] = original.__func__(cls, opset_version)
        master = _KEPT.registries[opset_version]
        registry = cls()
        vars(registry).update(vars(master))
        registry.functions = {target: list(decompositions) for target, decompositions in master.functions.items()}
        return registry

    return classmethod(from_torchlib)


def _kept_torchlib(original: Any) -> Any:
    def get_torchlib_ops() -> list[Any]:
        if _KEPT.torchlib is None:
            _KEPT.torchlib = original()
        return list(_KEPT.torchlib)

    return get_torchlib_ops


def _kept_composites(original: Any) -> Any:
    def collect() -> set[Any]:
        import torch

        registrations = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")  # noqa: SLF001
        if registrations != _KEPT.registrations:
            _KEPT.composites = frozenset(original())
            _KEPT.registrations = registrations
        return set(_KEPT.composites)

    return collect


def _kept_decompositions(original: Any) -> Any:
    def create(registered: set[Any]) -> Table:
        import torch

        made_from = (set(registered), dict(torch._decomp.decomposition_table), _composites())  # noqa: SLF001
        for kept_for, table in _KEPT.decompositions:
            if kept_for == made_from:
                return dict(table)
        table = original(registered)
        _keep(_KEPT.decompositions, (made_from, table))
        return dict(table)

    return create


def _kept_split(original: Any) -> Any:
    def split(table: Table) -> tuple[Table, Table]:
        composites = _composites()
        for kept_for, with_composites, halves in _KEPT.splits:
            if with_composites == composites and kept_for == table:
                return dict(halves[0]), dict(halves[1])
        asked = dict(table)
        composite, rest = original(table)
        _keep(_KEPT.splits, (asked, composites, (dict(composite), dict(rest))))
        return composite, rest

    return split


def _composites() -> frozenset[Any]:
    from torch.export import exported_program

    return frozenset(exported_program._collect_all_valid_cia_ops())  # type: ignore[attr-defined]  # noqa: SLF001


def _kept_override(original: Any) -> Any:
    """Swap the composite operators' kernels as the last export did, if nothing has changed since."""

    @contextmanager
    def override(asked: Table) -> Iterator[None]:
        from torch._subclasses.fake_impls import op_implementations_dict as rules

        before = {op: dict(op.py_kernels) for op in asked}
        rules_before = {op: rules[op] for op in asked if op in rules}
        for kept in _KEPT.overrides:
            if kept.asked == asked and kept.before == before and kept.rules_before == rules_before:
                with _swapped(kept, rules):
                    yield
                return
        with original(asked):
            during = {op: dict(op.py_kernels) for op in asked}
            rules_during = {op: rules[op] for op in asked if op in rules}
            _keep(_KEPT.overrides, _Override(dict(asked), before, rules_before, during, rules_during))
            yield

    return override


@contextmanager
def _swapped(kept: _Override, rules: Table) -> Iterator[None]:
    _install(kept.during)
    rules.update(kept.rules_during)
    try:
        yield
    finally:
        _install(kept.before)
        for op in kept.asked:  # torch takes away every rule on its way out, also those that stood there before
            rules.pop(op, None)


def _install(kernels: Table) -> None:
    for op, table in kernels.items():
        op.py_kernels.clear()
        op.py_kernels.update(table)
        op._dispatch_cache.clear()  # noqa: SLF001


_EXPORTER = "torch.onnx._internal.exporter"
_PROGRAM = "torch.export.exported_program"
_LEVERS: tuple[Lever, ...] = (
    Lever(
        "registry",
        f"{_EXPORTER}._registration",
        "ONNXRegistry.from_torchlib",
        _kept_registry,
        takes=("cls", "opset_version"),
    ),
    Lever("torchlib", f"{_EXPORTER}._registration", "onnxscript_apis.get_torchlib_ops", _kept_torchlib),
    Lever("composites", _PROGRAM, "_collect_all_valid_cia_ops", _kept_composites),
    Lever("composites by default", "torch.export.decomp_utils", "_collect_all_valid_cia_ops", _kept_composites),
    Lever(
        "decompositions",
        f"{_EXPORTER}._decomp",
        "create_onnx_friendly_decomposition_table",
        _kept_decompositions,
        takes=("onnx_registered_ops",),
        needs="composites",
    ),
    Lever(
        "split",
        _PROGRAM,
        "_split_decomp_table_to_cia_and_python_decomp",
        _kept_split,
        takes=("decomp_table",),
        needs="composites",
    ),
    Lever("override", _PROGRAM, "_override_composite_implicit_decomp", _kept_override, takes=("cia_ops_to_callable",)),
)


def levers() -> dict[str, bool]:
    """Which of the levers are on."""
    return present(_LEVERS)


def why_off() -> dict[str, str | None]:
    """Why each lever is off, by its name; None where it is on."""
    return reasons(_LEVERS)


@contextmanager
def quick() -> Iterator[None]:
    """While open, exports of this process share their tables; on leaving, torch is as it was."""
    with pulled(_LEVERS):
        yield


def prepare(opsets: Iterable[int] = (18, 23)) -> None:
    """Fill the tables for ``opsets``, so that a worker forked from here exports quickly from the first time on.

    Runs one tiny export an opset on the CPU, in this process; starts no threads and touches no GPU. An exporter that
    cannot make them is no concern of this function: whatever is asked of it says so in its own row.
    """
    for opset in dict.fromkeys(opsets):
        for _ in range(2):  # the first export leaves torch's fake rules as every later one finds them
            with suppress(Exception):
                try_out(opset)


def try_out(opset: int = 18) -> None:
    """Make a tiny export with the levers. Raises what it raises without them as well."""
    import torch

    module, x = torch.nn.ReLU().eval(), torch.zeros(1)

    def export() -> None:
        with quick():
            torch.onnx.export(module, (x,), dynamo=True, opset_version=opset, verbose=False)

    fall_back(export)


def forget() -> None:
    """Throw away all that is kept; for measurements and tests."""
    vars(_KEPT).update(vars(_Kept()))
