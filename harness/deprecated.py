"""Old names of the plugin protocols, and of the modules that plugins import: they work for one more release.

Plugins of other distributions were written with these names. Every use of one issues a ``DeprecationWarning`` with the
current name. harness itself uses none, and type checkers do not see them. They cost nothing until one is used.
Methods that plugins define are in :func:`harness.layers.with_current_names`. :func:`with_current_keys` does the same
for reports that an earlier release wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

Class = TypeVar("Class", bound="type[Any]")

OLD_MODULES = {
    "harness.api.answers": "harness.api.functions",
    "harness.compare.bits": "harness.compare.numbers",
    "harness.compare.distance": "harness.compare.verdict",
    "harness.compare.numberformat": "harness.compare.numbers",
    "harness.compare.pair": "harness.compare.numbers",
    "harness.compare.strict": "harness.compare.rules",
    "harness.model.subject": "harness.model.build",
    "harness.module_copy": "harness.model.tensors",
    "harness.onnx_arrays": "harness.data_files.onnx_files",
    "harness.report.advice": "harness.report.wording",
    "harness.report.case_name": "harness.report.wording",
    "harness.report.facts": "harness.report.machines",
    "harness.report.markup": "harness.report.tables",
    "harness.report.matrix": "harness.report.tables",
    "harness.spec.case": "harness.spec.language.case",
    "harness.spec.tolerance": "harness.spec.language.tolerances",
}

OLD_NAMES = {
    "harness.compare.metrics": {"Judged": "ComparedValues"},
    "harness.compare.numbers": {"steps_between": "ulps_between"},
    "harness.compare.rules": {"close": "close_allowance"},
    "harness.data_files.onnx_files": {"dtype_of": "dtype_from_onnx"},
    "harness.environment": {"installed": "installed_version"},
    "harness.errors": {
        "LONGEST_HALF": "MAX_PART_LENGTH",
        "NoRoom": "DiskFull",
        "SIGNALLED": "SIGNAL_EXIT_BASE",
        "collecting": "collect_problems",
        "interrupted_by": "interrupting_signal",
        "path_of": "unescape_path",
        "reason": "describe_error",
        "told": "escape_path",
    },
    "harness.fixes._builder": {
        "INTEGERS": "INTEGER_TYPES",
        "in_float32": "computed_in_float32",
        "integers": "int64_vector",
        "narrowed": "from_compute_type",
        "number": "scalar",
        "widened": "to_compute_type",
    },
    "harness.fixes._lowering": {"Kind": "ArgumentKind"},
    "harness.layers": {"Twin": "Mutant"},
    "harness.report.machines": {"about": "named_facts", "facts": "flatten"},
    "harness.report.wording": {
        "WRONG": "UNEXPECTED",
        "blindness": "inconclusive_reason",
        "bundle_of": "bundle_folder",
        "exports": "export_counts",
        "happened": "stage_and_symptom",
        "index": "format_index",
        "number": "format_number",
        "numbers": "comparison_line",
        "printable": "harness.errors.printable",
        "shortened": "harness.errors.shortened",
        "telling": "main_comparison",
        "value_at": "format_element",
        "wrong": "unexpected",
    },
    "harness.runtimes": {"owned": "copied"},
}
"""The old names of each module with the current ones; a name that moved to another module has dots."""


def accept_old_names(module: str) -> None:
    """Make the old names of ``module`` available: a module calls this with its ``__name__``."""
    vars(sys.modules[module])["__getattr__"] = partial(_look_up, module, module)


def accept_old_modules() -> None:
    """Make the old modules importable. Python asks for them only after it has not found a module of this name."""
    sys.meta_path.append(_OldModules())


class _OldModules:
    """Finds and loads an old module: one without code, which looks every name up in the current module."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        from importlib.machinery import ModuleSpec

        loader: Any = self
        return ModuleSpec(name, loader) if name in OLD_MODULES else None

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__getattr__"] = partial(_look_up, module.__name__, OLD_MODULES[module.__name__])


def _look_up(old_module: str, module: str, name: str) -> Any:
    """The value of ``old_module.name``, which is in ``module`` if that did not move itself."""
    from importlib import import_module  # not at the top: most runs use no old name

    current = OLD_NAMES.get(module, {}).get(name, name)
    if name.startswith("__") or (module, current) == (old_module, name):
        raise AttributeError(f"module {old_module!r} has no attribute {name!r}")
    owner, _, current = current.rpartition(".")
    value = getattr(import_module(owner or module), current)
    _warn(f"{old_module}.{name}", f"{owner or module}.{current}")
    return value


def old_attributes(**current: str) -> Callable[[Class], Class]:
    """A class decorator: attributes, methods and constructor arguments work under old names too, ``old="new"``."""

    def decorate(decorated: Class) -> Class:
        constructor, name = decorated.__init__, decorated.__name__

        @wraps(constructor)
        def accept_old_arguments(self: Any, *args: Any, **keywords: Any) -> None:
            for old in current.keys() & keywords.keys():
                _warn(f"{name}({old}=...)", f"{name}({current[old]}=...)")
                keywords[current[old]] = keywords.pop(old)
            constructor(self, *args, **keywords)

        type.__setattr__(decorated, "__init__", accept_old_arguments)
        for old, new in current.items():
            type.__setattr__(decorated, old, property(_reader(name, old, new)))
        return decorated

    return decorate


def _reader(owner: str, old: str, new: str) -> Callable[[Any], Any]:
    def read(instance: Any) -> Any:
        _warn(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(instance, new)

    return read


def _warn(old: str, new: str) -> None:
    from warnings import warn

    # The stack: this function, the function here that calls it, the plugin.
    warn(f"{old} is now {new}; the old name works until the next release", DeprecationWarning, stacklevel=3)


_OLD_KEYS = {"blind": "inconclusive", "pace_us": "calibration_us", "calm": "undisturbed"}


def with_current_keys(raw: Any) -> Any:
    """``raw``, a result in JSON, with today's keys where an earlier release wrote others.

    What is no result is returned as it is: whoever reads it validates it afterwards.
    """
    if not isinstance(raw, Mapping):
        return raw
    parts = {"outputs": _each(_renamed), "findings": _each(_current_finding), "latency": _current_figure}
    return {key: parts[key](value) if key in parts else value for key, value in raw.items()}


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: [convert(value) for value in values] if isinstance(values, list) else values


def _renamed(raw: Any) -> Any:
    return {_OLD_KEYS.get(key, key): value for key, value in raw.items()} if isinstance(raw, Mapping) else raw


def _current_finding(raw: Any) -> Any:
    if not isinstance(raw, Mapping):
        return raw
    what = "float64_reference" if raw.get("what") == "oracle" else raw.get("what")
    return {**raw, "what": what, "comparison": _renamed(raw.get("comparison"))}


def _current_figure(raw: Any) -> Any:
    """A latency, with those inside it: of other shapes, variants, the transfer and the device's clock."""
    if not isinstance(raw, Mapping):
        return raw
    figure = _renamed(raw)
    if "quotable" in figure:
        quotable = figure.pop("quotable")
        figure["low_confidence"] = not quotable if isinstance(quotable, bool) else quotable
    for key in figure.keys() & {"transfer", "by_device"}:
        figure[key] = _current_figure(figure[key])
    figure |= {"by_shape": _each(_current_figure)(figure["by_shape"])} if "by_shape" in figure else {}
    if isinstance(variants := figure.get("variants"), Mapping):
        figure["variants"] = {name: _current_figure(variant) for name, variant in variants.items()}
    return figure
