"""Caches the tables that torch's dynamo exporter builds again for every export, although they are the same each time.

A tiny export takes half a second. Nearly all of it is spent on tables that do not depend on the model: the registry of
ONNX functions, the composite operators, the decomposition table, and the kernels that are swapped during the export.
:func:`cached_tables` reuses them while it is open. :func:`warm_up` fills them once in a process that will fork workers,
so that each worker exports quickly from the first time on.

A large export spends its time on writing weights: :func:`harness.exporters._files.in_memory_order`.

The patched names are private to torch; :func:`disabled_reasons` says which of them this release does not have. A
speed-up hands out copies, so a translation table given to one export cannot reach the next. A cached table is
discarded as soon as the tables that it was made from have changed. What the exports of one model share is kept by
:mod:`harness.exporters._dynamo_sharing`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from harness.exporters import _dynamo_sharing, _speed_ups
from harness.exporters._files import in_memory_order
from harness.exporters._speed_ups import SpeedUp

WARMED_UP_EXPORTERS = frozenset({"onnx-dynamo", "onnx-torchscript"})
"""The exporters that are faster after :func:`warm_up`: both load much of torch when they are first used."""

Table = dict[Any, Any]


def warm_up(opsets: Iterable[int] = (18, 23)) -> None:
    """Fill the tables for ``opsets``, so that a worker forked from here exports quickly from the first time on.

    Runs tiny exports on the CPU, in this process; starts no threads and uses no GPU. Errors of the exporter are
    ignored here, because a check that uses it reports them in its own row.
    """
    for opset in dict.fromkeys(opsets):
        for _ in range(2):  # the first export leaves torch's fake rules as every later one finds them
            with suppress(Exception):
                trial_export(opset)


@contextmanager
def cached_tables() -> Iterator[None]:
    """While open, exports of this process reuse the cached tables; afterwards torch is as it was."""
    with _speed_ups.applied(_SPEED_UPS):
        yield


def speed_up_status() -> dict[str, str | None]:
    """Why each speed-up of the dynamo exporter is off with the installed torch, by name; None if it is on.

    Loads torch and tries the speed-ups on a tiny export. Raises the exporter's exception if it fails without them too.
    """
    trial_export()
    return {**disabled_reasons(), **_dynamo_sharing.disabled_reasons()}


def disabled_reasons() -> dict[str, str | None]:
    """Why each speed-up of this module is off, by name; None if it is on."""
    return _speed_ups.disabled_reasons(_SPEED_UPS)


def enabled() -> dict[str, bool]:
    """Whether each speed-up of this module is on, by name."""
    return _speed_ups.enabled(_SPEED_UPS)


def trial_export(opset: int = 18) -> None:
    """Make a tiny export with the speed-ups. Raises the exporter's exception if it fails without them too."""
    import torch

    module, x = torch.nn.ReLU().eval(), torch.zeros(1)

    def export() -> None:
        with cached_tables():
            torch.onnx.export(module, (x,), dynamo=True, opset_version=opset, verbose=False)

    _speed_ups.with_fallback(export)


def unrelated_to(error: Exception) -> frozenset[str]:
    """The speed-ups that cannot have caused ``error``: the registry is read only once the module is captured."""
    failed_to_capture = _speed_ups.is_instance(error, f"{_EXPORTER}._errors", "TorchExportError")
    return frozenset({"registry", "torchlib"}) if failed_to_capture else frozenset()


def clear() -> None:
    """Empty the cache; for measurements and tests."""
    vars(_CACHE).update(vars(_Cache()))


@dataclass
class _Cache:
    """The tables kept between exports. There is one per process; forked workers inherit it.

    An entry of ``decompositions`` and of ``splits`` begins with the tables that it was made from.
    """

    registries: dict[int, Any] = field(default_factory=dict)
    functions: Any = None
    absent: frozenset[str] = frozenset()
    torchlib: list[Any] | None = None
    registrations: list[str] | None = None
    composites: frozenset[Any] = frozenset()
    decompositions: list[tuple[Any, Table]] = field(default_factory=list)
    splits: list[tuple[Table, frozenset[Any], tuple[Table, Table]]] = field(default_factory=list)
    overrides: list[_Override] = field(default_factory=list)


@dataclass(frozen=True)
class _Override:
    """The kernels and fake rules of the composite operators, before and during their replacement."""

    callables: Table
    kernels_before: Table
    rules_before: Table
    kernels_during: Table
    rules_during: Table


_CACHE = _Cache()
_MAX_ENTRIES = 8  # a run needs one per opset and set of fixes
_KEEP_FOR_OPSET = "_cleanup_registry_based_on_opset_version"


def _append(entries: list[Any], entry: Any) -> None:
    entries.append(entry)
    del entries[:-_MAX_ENTRIES]


def _cached_registry(original: Any) -> Any:
    def from_torchlib(cls: Any, opset_version: int = 18) -> Any:
        _forget_if_operators_came()
        if opset_version not in _CACHE.registries:
            with _nothing_logged():
                _CACHE.registries[opset_version] = _registry_of(cls, opset_version, original)
        return _copied(_CACHE.registries[opset_version], cls)

    return classmethod(from_torchlib)


def _forget_if_operators_came() -> None:
    """Forget the registries if there are operators now that had none: torchvision's, once a module has imported it."""
    import torch
    from torch.onnx._internal.exporter import _registration

    is_there = torch._C._dispatch_has_kernel  # noqa: SLF001
    if any(map(is_there, _CACHE.absent)):
        _CACHE.functions, _CACHE.registries = None, {}
    if not _CACHE.registries:
        with _nothing_logged():
            functions = _registration.onnxscript_apis.get_torchlib_ops()  # type: ignore[attr-defined]
        names = (function.qualified_name for function in functions)
        _CACHE.absent = frozenset(name for name in names if not is_there(name))


def _registry_of(cls: Any, opset_version: int, original: Any) -> Any:
    """The registry for an opset: of the functions of all opsets, which are read once, those that torch keeps for it."""
    if not hasattr(cls, _KEEP_FOR_OPSET):
        return original.__func__(cls, opset_version)
    if _CACHE.functions is None:
        complete = type(cls.__name__, (cls,), {_KEEP_FOR_OPSET: lambda _registry: None})
        _CACHE.functions = original.__func__(complete, opset_version)
    registry = _copied(_CACHE.functions, cls)
    registry._opset_version = opset_version  # noqa: SLF001
    getattr(registry, _KEEP_FOR_OPSET)()
    return registry


def _copied(registry: Any, cls: Any) -> Any:
    copy = cls()
    vars(copy).update(vars(registry))
    copy.functions = {target: list(decompositions) for target, decompositions in registry.functions.items()}
    return copy


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Drop what is logged inside: it is about the libraries, and only the first export of a process would have it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _cached_torchlib(original: Any) -> Any:
    def get_torchlib_ops() -> list[Any]:
        if _CACHE.torchlib is None:
            _CACHE.torchlib = original()
        return list(_CACHE.torchlib)

    return get_torchlib_ops


def _cached_composites(original: Any) -> Any:
    def collect() -> set[Any]:
        import torch

        registrations = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")  # noqa: SLF001
        if registrations != _CACHE.registrations:
            _CACHE.composites = frozenset(original())
            _CACHE.registrations = registrations
        return set(_CACHE.composites)

    return collect


def _cached_decompositions(original: Any) -> Any:
    def create(registered: set[Any]) -> Table:
        import torch

        sources = (set(registered), dict(torch._decomp.decomposition_table), _composites())  # noqa: SLF001
        for cached_sources, table in _CACHE.decompositions:
            if cached_sources == sources:
                return dict(table)
        table = original(registered)
        _append(_CACHE.decompositions, (sources, table))
        return dict(table)

    return create


def _cached_split(original: Any) -> Any:
    def split(table: Table) -> tuple[Table, Table]:
        composites = _composites()
        for cached_table, cached_composites, parts in _CACHE.splits:
            if cached_composites == composites and cached_table == table:
                return dict(parts[0]), dict(parts[1])
        table_before = dict(table)
        composite_part, rest = original(table)
        _append(_CACHE.splits, (table_before, composites, (dict(composite_part), dict(rest))))
        return composite_part, rest

    return split


def _composites() -> frozenset[Any]:
    from torch.export import exported_program

    return frozenset(exported_program._collect_all_valid_cia_ops())  # type: ignore[attr-defined]  # noqa: SLF001


def _cached_override(original: Any) -> Any:
    """Replace the composite operators' kernels as an earlier export did, if nothing has changed since."""

    @contextmanager
    def override(callables: Table) -> Iterator[None]:
        from torch._subclasses.fake_impls import op_implementations_dict as rules

        kernels = {op: dict(op.py_kernels) for op in callables}
        op_rules = {op: rules[op] for op in callables if op in rules}
        for cached in _CACHE.overrides:
            if cached.callables == callables and cached.kernels_before == kernels and cached.rules_before == op_rules:
                with _overridden(cached, rules):
                    yield
                return
        with original(callables):
            kernels_during = {op: dict(op.py_kernels) for op in callables}
            rules_during = {op: rules[op] for op in callables if op in rules}
            _append(_CACHE.overrides, _Override(dict(callables), kernels, op_rules, kernels_during, rules_during))
            yield

    return override


@contextmanager
def _overridden(cached: _Override, rules: Table) -> Iterator[None]:
    _set_kernels(cached.kernels_during)
    rules.update(cached.rules_during)
    try:
        yield
    finally:
        _set_kernels(cached.kernels_before)
        for op in cached.callables:  # torch removes every rule on exit, also rules that were there before
            rules.pop(op, None)


def _set_kernels(kernels: Table) -> None:
    for op, table in kernels.items():
        op.py_kernels.clear()
        op.py_kernels.update(table)
        op._dispatch_cache.clear()  # noqa: SLF001


def _written_in_order(original: Any) -> Any:
    def bytes_of(tensor: Any) -> Any:
        return in_memory_order(original(tensor))

    return bytes_of


_EXPORTER = "torch.onnx._internal.exporter"
_PROGRAM = "torch.export.exported_program"
_SPEED_UPS: tuple[SpeedUp, ...] = (
    SpeedUp(
        "registry",
        f"{_EXPORTER}._registration",
        "ONNXRegistry.from_torchlib",
        _cached_registry,
        parameters=("cls", "opset_version"),
        needs="torchlib",
    ),
    SpeedUp("torchlib", f"{_EXPORTER}._registration", "onnxscript_apis.get_torchlib_ops", _cached_torchlib),
    SpeedUp("composites", _PROGRAM, "_collect_all_valid_cia_ops", _cached_composites),
    SpeedUp("composites by default", "torch.export.decomp_utils", "_collect_all_valid_cia_ops", _cached_composites),
    SpeedUp(
        "decompositions",
        f"{_EXPORTER}._decomp",
        "create_onnx_friendly_decomposition_table",
        _cached_decompositions,
        parameters=("onnx_registered_ops",),
        needs="composites",
    ),
    SpeedUp(
        "split",
        _PROGRAM,
        "_split_decomp_table_to_cia_and_python_decomp",
        _cached_split,
        parameters=("decomp_table",),
        needs="composites",
    ),
    SpeedUp(
        "override",
        _PROGRAM,
        "_override_composite_implicit_decomp",
        _cached_override,
        parameters=("cia_ops_to_callable",),
    ),
    SpeedUp(
        "writing",
        "onnx_ir._core",
        "_create_np_array_for_byte_representation",
        _written_in_order,
        parameters=("tensor",),
    ),
)
