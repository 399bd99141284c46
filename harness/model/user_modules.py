"""The user's own modules: made by a callable that is imported, or loaded from a file.

Installed modules are found first, the user's folders are searched last. A TorchScript module whose ``forward`` takes
numbers beside tensors, such as a sampling rate, is called with tensors alone (:func:`with_numbers_from_tensors`).
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from harness import search_path
from harness.data_files import absent_python_file
from harness.errors import UsageError, bounded_text, escape_path, shortened
from harness.spec.language.case import FactoryModel, StoredModel
from harness.spec.quoting import join_names, suggestion

FACTORY_FORM = "write it as package.module:callable"
MAX_CODE = 80


def call_factory(factory: FactoryModel) -> nn.Module:
    """The module that the user's callable returns; a callable that is a module itself stands for itself.

    Raises :class:`UsageError` if there is no such callable (:func:`find_factory`), if it needs further arguments, or if
    it does not return an ``nn.Module``.
    """
    function = find_factory(factory)
    if problem := argument_problem(function, factory.args, "give them under `args`"):
        raise UsageError(f"{factory_label(factory)} {problem}")
    module = function if isinstance(function, nn.Module) else function(**factory.args)
    if not isinstance(module, nn.Module):
        raise UsageError(f"{factory_label(factory)} returned {type(module).__name__}; it must return an nn.Module")
    return without_compilation(module)


def without_compilation(module: nn.Module) -> nn.Module:
    """``module`` with the modules themselves in place of what ``torch.compile`` made of them, which is no eager torch.

    A compiled part is replaced in place. It could not be traced, and may answer otherwise after it is compiled again.
    """
    for parent in list(module.modules()):
        if getattr(parent, "_compiled_call_impl", None) is not None:  # Module.compile() sets it
            parent._compiled_call_impl = None  # noqa: SLF001
        for name, child in parent.named_children():
            if (original := _uncompiled(child)) is not child:
                setattr(parent, name, original)
    return _uncompiled(module)


def _uncompiled(module: nn.Module) -> nn.Module:
    return module.get_submodule("_orig_mod") if type(module).__name__ == "OptimizedModule" else module


def argument_problem(function: Any, arguments: Mapping[str, Any], advice: str) -> str | None:
    """An argument that ``function`` does not have, or all that it needs and ``arguments`` lack; None if it is fine.

    ``advice`` says how to give arguments; ``{name}`` in it is the first one that is missing. A function without a
    signature, or a module, is fine.
    """
    if isinstance(function, nn.Module):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = signature.parameters.values()
    kinds = {each.kind for each in parameters}
    by_name = [each.name for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    unknown = [name for name in arguments if name not in by_name]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        otherwise = f"it has {join_names(by_name)}"
        return f"has no argument {unknown[0]}; {suggestion(unknown[0], by_name, otherwise)}"
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    required = [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]
    missing = [name for name in required if name not in arguments]
    return f"needs {', '.join(missing)}{signature}; {advice.format(name=missing[0])}" if missing else None


def find_factory(factory: FactoryModel) -> Any:
    """The user's callable, ``package.module:callable`` or ``path/to/file.py:callable``; importing it runs its code.

    The working directory is searched last. Raises :class:`UsageError` if there is no such callable, or if its module
    has the name of another module.
    """
    module_name, _, name = factory.factory.rpartition(":")
    is_file = module_name.endswith(".py")
    source = _shown(module_name) if is_file else f"module {module_name!r}"
    label = factory_label(factory)
    try:
        module = (import_user_file if is_file else import_user_module)(module_name, label)
    except ImportError as error:
        raise UsageError(f"{label}: {error}; {_import_advice(module_name, error)}") from error
    except AttributeError as error:
        raise UsageError(f"{label}: {error}; {FACTORY_FORM}") from error
    except SystemExit as error:
        raise exit_at_import(label, error) from error
    try:
        function = getattr(module, name)
    except AttributeError as error:
        own = [each for each, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        advice = suggestion(name, vars(module), f"it defines {join_names(own)}" if own else FACTORY_FORM)
        raise UsageError(f"{label}: {source} has no attribute {name!r}; {advice}") from error
    if not callable(function):
        kind = type(function).__name__
        raise UsageError(f"{label} is no callable but {kind}; name a class or a function")
    return function


def exit_at_import(label: str, error: SystemExit) -> UsageError:
    """The error for a module whose import ends like a script's run, such as in argparse; ``label`` begins it."""
    call = f"exit({shortened(bounded_text(error), MAX_CODE)})"
    advice = 'put what a script does, such as parse_args(), under `if __name__ == "__main__"`'
    return UsageError(f"{label}: its import calls {call}; {advice}")


def factory_label(factory: FactoryModel) -> str:
    """What messages call the user's callable."""
    module_name, _, name = factory.factory.rpartition(":")
    return f"factory '{_shown(module_name) if module_name.endswith('.py') else module_name}:{name}'"


def _shown(file: str) -> str:
    """The path as a user names it: relative, if it is below the working directory."""
    return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file


def load_stored_module(file: StoredModel) -> nn.Module:
    """The module in the file, on the CPU. TorchScript runs its code.

    Raises :class:`UsageError` for a format that is not loaded as a module.
    """
    if file.format == "torchscript":
        return with_numbers_from_tensors(load_torchscript(file.path))
    if file.format == "program":
        return torch.export.load(file.path).module()
    raise UsageError(f"{file.path}: cannot be a module of torch; it is run as it is")


def load_torchscript(path: str | Path, device: str = "cpu", extra_files: dict[str, str] | None = None) -> Any:
    """The TorchScript module in the file.

    Operators of torchvision and of the like are known once their library is imported, as who wrote the file had to do.
    Raises :class:`UsageError` if it is not installed, and what torch raises.
    """
    load: Any = torch.jit.load
    try:
        return load(str(path), map_location=device, _extra_files=extra_files)
    except RuntimeError as error:
        unknown = re.search(r"Unknown builtin op: (\w+)::(\w+)", str(error))
        if unknown is None or unknown[1] not in OPERATOR_LIBRARIES or unknown[1] in sys.modules:
            raise
        library = unknown[1]
        try:
            import_module(library)
        except ImportError:
            file = escape_path(path)
            raise UsageError(
                f"{file}: calls {library}::{unknown[2]}; install {library}, which has this operator"
            ) from error
    return load(str(path), map_location=device, _extra_files=extra_files)


OPERATOR_LIBRARIES = frozenset({"torchvision", "torchaudio", "torch_scatter", "torch_sparse", "torch_cluster"})
"""Libraries that register operators under their own name when they are imported."""


def _import_advice(module_name: str, error: ImportError) -> str:
    """What the user can do so that the import of ``module_name`` succeeds."""
    if isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]:
        return f"run harness in the folder that holds it, not in {Path.cwd()}, or install it, or add it to PYTHONPATH"
    return FACTORY_FORM


def import_user_module(module_name: str, label: str) -> ModuleType:
    """Import ``module_name``, also from the working directory; ``label`` begins the message of an error.

    Raises :class:`UsageError` if a file or folder of the user has the name of another module, which Python finds first.
    Errors that the import raises pass through.
    """
    folders = search_path.excluded_folders()
    _refuse_shadowed_name(module_name, folders, label)
    search_path.append_folders(folders)
    return import_module(module_name)


def import_user_file(path: str, label: str) -> ModuleType:
    """Import the Python file at ``path``, with its folder and the working directory searched last for what it imports.

    Raises :class:`UsageError` if there is no such file; ``label`` begins the message. Errors of the file pass through.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise UsageError(f"{label}: {absent_python_file(path)}")
    name = _name_of_file(file)
    if name in sys.modules:
        return sys.modules[name]
    search_path.append_folders([str(file.parent), *search_path.excluded_folders()])
    spec = spec_from_file_location(name, file)
    assert spec is not None, "the name of the file ends in .py"
    assert spec.loader is not None, "it is a file of Python"
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def type_name(kind: type) -> str:
    """The name of a class with that of its module; a file that was imported by its path has its own name alone."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    module = Path(file).stem if file and _name_of_file(Path(file)) == kind.__module__ else kind.__module__
    return f"{module}.{kind.__qualname__}"


def _name_of_file(file: Path) -> str:
    """The name in ``sys.modules`` of a file that is imported by its path."""
    return re.sub(r"\W", "_", f"{file.with_suffix('')}").strip("_")


def _refuse_shadowed_name(module_name: str, folders: Iterable[str], label: str) -> None:
    name = module_name.partition(".")[0]
    first = _first_spec(name)
    for folder in folders if first is not None else ():
        user_spec = PathFinder.find_spec(name, [folder])
        if user_spec is None or not _provides(user_spec, module_name, folder) or _same_module(user_spec, first):
            continue
        file = Path(user_spec.origin or os.path.join(folder, name))  # noqa: PTH118 - as Python names it
        kind = "folder" if file.name == "__init__.py" or user_spec.origin is None else "file"
        shown = os.path.relpath(file.parent if file.name == "__init__.py" else file)
        raise UsageError(
            f"{label}: the name {name} belongs to {_owner(name)}, which is imported instead of {shown}; "
            f"rename the {kind}"
        )


def _first_spec(name: str) -> ModuleSpec | None:
    """The spec of the module that Python finds for ``name`` before the user's folders are searched."""
    try:
        return find_spec(name)
    except ValueError:  # a module object that was created by hand has no spec
        return None


def _provides(user_spec: ModuleSpec, module_name: str, folder: str) -> bool:
    """True for a module or package. A folder without ``__init__.py`` must contain the submodule."""
    path = Path(folder, *module_name.split("."))
    return user_spec.origin is not None or ("." in module_name and (path.is_dir() or path.with_suffix(".py").is_file()))


def _same_module(user_spec: ModuleSpec, first: ModuleSpec | None) -> bool:
    """True if both specs are the same file, or portions of one namespace package."""
    if first is None or user_spec.origin is None:
        return first is None or (first.origin is None and first.submodule_search_locations is not None)
    return first.origin is not None and os.path.realpath(user_spec.origin) == os.path.realpath(first.origin)


def _owner(name: str) -> str:
    if name in sys.stdlib_module_names:
        return "Python's standard library"
    if name == "harness":  # an editable installation of harness lists no modules
        return "harness itself"
    distributions = packages_distributions().get(name)
    return f"the installed package {distributions[0]}" if distributions else "an installed package"


NUMBERS = frozenset({"int", "float", "bool"})


def with_numbers_from_tensors(module: torch.jit.ScriptModule) -> nn.Module:
    """``module``, called with tensors alone: where ``forward`` takes a number, a tensor of one element stands for it.

    The module itself if it takes tensors only, or has no ``forward`` that can be called: that shows when it is called.
    """
    method: Any = getattr(module, "forward", None)
    if method is None:
        return module
    arguments = method.schema.arguments[1:]  # the first is the module
    numbers = frozenset(index for index, each in enumerate(arguments) if str(each.type) in NUMBERS)
    return _WithNumbers(module, numbers, [each.name for each in arguments]) if numbers else module


def script_signature(module: nn.Module) -> inspect.Signature | None:
    """The signature of a TorchScript module's ``forward``; None for another module, or if it has names like ``x.1``."""
    script = module.layer if isinstance(module, _WithNumbers) else module
    if not isinstance(script, torch.jit.ScriptModule) or not hasattr(script, "forward"):
        return None
    forward: Any = script.forward
    arguments = forward.schema.arguments[1:]
    if not all(each.name.isidentifier() for each in arguments):
        return None
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = [each.default_value if each.has_default_value() else inspect.Parameter.empty for each in arguments]
    return inspect.Signature(
        [inspect.Parameter(each.name, kind, default=default) for each, default in zip(arguments, defaults, strict=True)]
    )


class _WithNumbers(nn.Module):
    def __init__(self, module: nn.Module, numbers: frozenset[int], names: Sequence[str]) -> None:
        super().__init__()
        self.layer = module
        self._numbers, self._names = numbers, names

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        """Call the module with numbers in the place of their tensors."""
        by_order = (each.item() if index in self._numbers else each for index, each in enumerate(inputs))
        names = {self._names[index] for index in self._numbers}
        return self.layer(*by_order, **{name: each.item() if name in names else each for name, each in named.items()})
