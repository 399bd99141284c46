"""The named sets of targets in ``targets.yaml``, and the targets of recorded models and of files under test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pydantic import RootModel

from harness.errors import Mistakes, Problem, SpecError, UsageError, collect_problems
from harness.registry import plugins
from harness.spec import TARGETS_FILE
from harness.spec.glob import matches
from harness.spec.language.case import ModelFormat, StoredModel
from harness.spec.model_files import FORMAT_NAMES
from harness.spec.quoting import join_names, limited_comparisons, suggestion
from harness.spec.targets import FILE, TARGET_SYNTAX, TESTED_FILE, Target, parse_target, runs_format, split_target
from harness.spec.yaml import read
from harness.spec.yaml.strict import validated
from harness.spec.yaml.tree import Node

SET_NAME = re.compile(r"[A-Za-z0-9_.-]+")


DEFAULT_SET = "default"


BUILT_IN_SETS: Mapping[str, tuple[str, ...]] = {
    DEFAULT_SET: (
        "trace/torch-cpu",
        "script/torch-cpu",
        "onnx-torchscript@17/ort-cpu",
        "onnx-dynamo@18/ort-cpu",
        "onnx-dynamo@23/ort-cpu",
        "onnx-dynamo@23+fixes/ort-cpu",
    )
}


DEFAULT_FILE_TARGET = Target(FILE, "ort-cpu")
"""The target of a recorded model by default."""


class LibraryPath(str):  # noqa: SLOT000 - it has one
    """The path of a library as a target has it, with the absolute ``path`` of the file."""

    path: str


@dataclass(frozen=True, slots=True)
class TargetSets:
    """Sets of targets by name, for the cases of specs if ``exported``, and for recorded models if ``recorded``.

    ``files`` are the targets of each file under test (:func:`harness.spec.targets.sets.targets_of`). The default set
    has the first of each, unless it names targets for the file itself.
    ``root`` is the folder that libraries in options of targets are in. They run code, so ``allow_import`` must be True.
    """

    sets: Mapping[str, tuple[Target, ...]]
    exported: bool = True
    recorded: bool = False
    files: tuple[tuple[Target, ...], ...] = ()
    root: Path = Path()
    allow_import: bool = False

    @property
    def all(self) -> tuple[Target, ...]:
        """Every target in a set, once; for recorded models also every target that a file can run on."""
        return _unique((*self._in_sets, *(all_file_targets() if self.recorded else ()), *chain(*self.files)))

    @property
    def _in_sets(self) -> tuple[Target, ...]:
        return _unique(target for targets in self.sets.values() for target in targets)

    def select(self, words: Sequence[str] = (DEFAULT_SET,)) -> tuple[Target, ...]:
        """The targets that ``words`` name, each once, in order; the default set if there are no words.

        A word, or each part of a comma-separated list, is the name of a set, a target, or with ``*`` a glob over the
        targets of all sets: over the whole target if it has a ``/``, else over the runtime. For recorded models it may
        also be a runtime, with or without options, and a glob matches all runtimes.
        Raises :class:`UsageError` for words that name nothing, and for a library that may not be loaded.
        """
        parts = [part.strip() for word in words or (DEFAULT_SET,) for part in word.split(",") if part.strip()]
        if not parts:
            raise UsageError("--targets names no target; name one, or leave it out for the set named default")
        targets = _unique(self._with_libraries(target) for part in parts for target in self._targets_of(part))
        if DEFAULT_SET not in parts:
            return targets
        named = {target.tested_file for target in targets}
        return (*targets, *_unique(file[0] for file in self.files if file[0].tested_file not in named))

    def _with_libraries(self, target: Target) -> Target:
        """``target`` with the absolute paths of the libraries in its options."""
        libraries = getattr(plugins("runtimes")[target.runtime], "libraries", ())  # a plugin need not have any
        paths = {key: self._library(target, key) for key in target.options if key in libraries}
        return replace(target, options={**target.options, **paths}) if paths else target

    def _library(self, target: Target, key: str) -> LibraryPath:
        text = target.options[key]
        file, root = os.path.realpath(self.root / text), os.path.realpath(self.root)
        if not Path(file).is_relative_to(root):
            raise UsageError(f"{target}: {key}={text} leads out of the folder {self.root}; put the library there")
        if not Path(file).is_file():
            raise UsageError(f"{target}: {key}={text}: no such file in {self.root}; write it relative to this folder")
        if not self.allow_import:
            raise UsageError(f"{target}: {key}={text} would run code; pass --allow-import to allow it")
        library = LibraryPath(text)
        library.path = file
        return library

    def _targets_of(self, word: str) -> Iterator[Target]:
        on_files = self._file_targets(word) if self.recorded else ()
        if self.exported or not on_files:
            try:
                yield from self._exported_targets(word)
            except UsageError:
                if not on_files:
                    raise
        yield from on_files

    def _file_targets(self, word: str) -> tuple[Target, ...]:
        if word not in self.sets:
            return file_targets(word)
        in_set = tuple(target for target in self.sets[word] if target.exporter == FILE)
        return in_set or ((DEFAULT_FILE_TARGET,) if word == DEFAULT_SET else ())

    def _exported_targets(self, word: str) -> Iterator[Target]:
        if word in self.sets:
            yield from self.sets[word]
        elif "*" in word:
            matching = [target for target in (*self._in_sets, *chain(*self.files)) if _matches(word, target)]
            if not matching:
                raise UsageError(f"{word}: no target matches; the targets are {join_names(map(str, self.all))}")
            yield from matching
        elif "/" in word:
            yield parse_target(word)
        else:
            names = [*self.sets, *map(str, self._in_sets)]
            containing = [name for name in names if word in name.split("/")]
            otherwise = f"one of the sets {join_names(self.sets)}, or a target {TARGET_SYNTAX}"
            if containing:
                remedy = f"did you mean {join_names(containing)}?"
            elif runtime := _runtime_after(word):
                remedy = f"a target has a runtime, such as {word}/{runtime}"
            else:
                remedy = suggestion(word, names, otherwise)
            raise UsageError(f"no target set named {word!r}; {remedy}")


def _runtime_after(word: str) -> str | None:
    """A runtime for what ``word`` exports, if it is an exporter with or without more; None if it is not."""
    exporter = plugins("exporters").get(re.split(r"[@+?]", word)[0])
    runtimes = (
        [] if exporter is None else [name for name, each in plugins("runtimes").items() if each.takes == exporter.makes]
    )
    return min(runtimes, key=lambda name: (name not in {"ort-cpu", "torch-cpu"}, name), default=None)


@limited_comparisons()
def load_target_sets(
    root: Path | str,
    *,
    exported: bool = True,
    recorded: bool = False,
    files: tuple[tuple[Target, ...], ...] = (),
    allow_import: bool = False,
) -> TargetSets:
    """The sets of ``targets.yaml`` in ``root``, and the built-in ``default`` unless the file defines one.

    The other arguments are those of :class:`TargetSets`. Raises :class:`SpecError` with every problem of the file.
    """
    path = Path(root) / TARGETS_FILE
    built_in = {name: tuple(map(parse_target, targets)) for name, targets in BUILT_IN_SETS.items()}
    if not os.path.lexists(path):
        return TargetSets(built_in, exported, recorded, files, Path(root), allow_import)
    problems: list[Problem] = []
    tree = read(path, problems)
    with collect_problems(problems):
        validated(_Sets, tree)
    sets: dict[str, tuple[Target, ...]] = {}
    for name, node in ((str(key), node) for key, node in tree.entries.items()):
        problems += _set_problems(name, node, tree)
        targets = []
        for item in node.items:
            if isinstance(item.value, str):
                with collect_problems(problems):
                    targets.append(parse_target(item.value, item.where))
        problems += _duplicates(targets, node) if len(targets) == len(node.items) else ()
        sets[name] = tuple(targets)
    if problems:
        raise SpecError(problems)
    return TargetSets({**built_in, **sets}, exported, recorded, files, Path(root), allow_import)


class _Sets(RootModel[dict[str, list[str]]]):
    """The targets of each set, by its name."""


def _set_problems(name: str, node: Node, tree: Node) -> Iterator[Problem]:
    if not SET_NAME.fullmatch(name):
        yield Problem(tree.keys[name], f"{name!r} cannot name a set", "letters, digits, `.`, `_` and `-` only")
    if not node.items:
        yield Problem(node.where, f"{name}: a set without targets", "name one, such as trace/torch-cpu")


def _duplicates(targets: Sequence[Target], node: Node) -> Iterator[Problem]:
    earlier = set()
    for at, target in enumerate(targets):
        key = (target.export, target.runtime, frozenset(target.options.items()))
        if key in earlier:
            yield Problem(node.items[at].where, f"{target}: listed twice in one set", "list it once")
        earlier.add(key)


def _unique(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Each target once, in order. Targets hold a mapping and have no hash, so their text is the key."""
    return tuple({str(target): target for target in targets}.values())


def all_file_targets() -> tuple[Target, ...]:
    """A recorded model's file on each runtime that runs ONNX, available on this machine or not."""
    return tuple(Target(FILE, name) for name, runtime in plugins("runtimes").items() if runtime.takes == "onnx")


def file_targets(word: str) -> tuple[Target, ...]:
    """The targets that ``word`` names for a recorded model; empty if it names none.

    The word is a runtime, with options or without, or a glob over runtimes or whole targets. Of several that a glob
    matches, only those available on this machine are used, if any is: ``ort-*`` stands for whichever of them is
    installed. Raises :class:`UsageError` for options of an unknown runtime, and for options that it does not have.
    """
    if "?" in word and "*" not in word and "/" not in word:
        return (parse_target(f"{FILE}/{word}"),)
    targets = all_file_targets()
    if "*" not in word:
        return tuple(target for target in targets if target.runtime == word)
    matching = [target for target in targets if _matches(word, target)]
    available = [target for target in matching if plugins("runtimes")[target.runtime].availability().present]
    return tuple(available or matching)


def _matches(glob: str, target: Target) -> bool:
    """True if ``glob`` matches the target: the whole of it if the glob has a ``/``, else the runtime."""
    return matches(glob, str(target) if "/" in glob else target.runtime)


DEFAULT_RUNTIMES: Mapping[ModelFormat, str] = {
    "onnx": "ort-cpu",
    "ort": "ort-cpu",
    "torchscript": "torch-cpu",
    "program": "export-cpu",
    "aoti": "aoti-cpu",
}
"""The runtime of a file under test if none is named, by its format."""


def targets_of(name: str, file: StoredModel) -> tuple[Target, ...]:
    """The targets of a file under test, the default one first: its file on each runtime that runs its format."""
    default = Target(f"{TESTED_FILE}{name}", DEFAULT_RUNTIMES[file.format])
    runtimes = [each for each, runtime in plugins("runtimes").items() if runs_format(runtime, file.format)]
    return (default, *(Target(default.exporter, each) for each in runtimes if each != default.runtime))


def tested_target(name: str, word: str) -> str:
    """The target of the file ``name`` on ``word``: a runtime, or transforms and a runtime (``+fp16/ort-cpu``)."""
    return f"{TESTED_FILE}{name}{word if word.startswith('+') else f'/{word}'}"


def targets_on(name: str, file: StoredModel, runtimes: Sequence[str]) -> tuple[str, ...]:
    """The targets of the file under test ``name`` on the ``runtimes`` of a command's ``--targets``.

    Raises :class:`Mistakes` with each word that is no runtime, or one that does not run the format of the file.
    """
    problems = [problem for word in runtimes if (problem := _problem_of_runtime(name, file, word)) is not None]
    if problems:
        raise Mistakes(f"--targets {problem}" for problem in problems)
    return tuple(tested_target(name, word) for word in runtimes)


def _problem_of_runtime(name: str, file: StoredModel, word: str) -> str | None:
    exporter = re.split(r"[@+?/]", word)[0]
    if "/" in word and (exporter in {*plugins("exporters"), FILE} or exporter.startswith(TESTED_FILE)):
        export, runtime = split_target(word)
        transforms = "".join(f"+{each}" for each in export.partition("?")[0].split("+")[1:] if each != "fixes")
        alone = f"{transforms}/{runtime}" if transforms else f"{runtime}, or +int8/{runtime} to lower it too"
        return f"{word}: {file.path} is exported already; name the runtime alone: {alone}"
    text = tested_target(name, word)
    try:
        target = parse_target(text)
    except UsageError as error:
        return f"{word}: {str(error).removeprefix(f'{text}: ')}"
    if not runs_format(plugins("runtimes")[target.runtime], file.format):
        fitting = join_names(each.runtime for each in targets_of(name, file))
        message = f"{file.path} is {FORMAT_NAMES[file.format]}, which {target.runtime} does not run"
        return f"{target.runtime}: {message}; use one of {fitting}"
    return None
