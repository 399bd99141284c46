"""A target: an exporter, its opset, and a runtime with its options.

Written ``EXPORTER[@OPSET][+fixes]/RUNTIME[?option=value&...]``, or ``file/RUNTIME[?...]`` for a recorded model.

``EXPORTER[@OPSET][+fixes]/RUNTIME[?option=value&...]`` -> a :class:`Target`, and ``targets.yaml``'s named sets.

The targets that a recorded model can be taken to: its file on any runtime that runs ONNX.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import RootModel

from harness.errors import Location, Problem, SpecError, UsageError, collecting
from harness.registry import plugins
from harness.spec.glob import matches
from harness.spec.quoting import few_comparisons, listed_names, suggestion
from harness.spec.yaml.reader import read
from harness.spec.yaml.strict import validated
from harness.spec.yaml.tree import Node

FILE = "file"
"""The first word of a target for a model that exists already as a file: nobody exports it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a case is taken: who exports it, and what runs the result."""

    exporter: str
    runtime: str
    opset: int | None = None
    fixes: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.export}/{self.runtime}" + (f"?{options}" if options else "")

    @property
    def export(self) -> str:
        """The half before the slash: targets that share it share an artifact."""
        return self.exporter + ("" if self.opset is None else f"@{self.opset}") + ("+fixes" if self.fixes else "")


FORM = "EXPORTER[@OPSET][+fixes]/RUNTIME[?option=value&...]"
TARGET = re.compile(
    r"(?P<exporter>[^/@+?]+)(@(?P<opset>[^/@+?]*))?(?P<fixes>\+[^/@+?]*)?/(?P<runtime>[^/?]+)(\?(?P<options>.*))?"
)
SET_NAME = re.compile(r"[A-Za-z0-9_.-]+")
DEFAULT = "default"
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    DEFAULT: (
        "trace/torch-cpu",
        "script/torch-cpu",
        "onnx-torchscript@17/ort-cpu",
        "onnx-dynamo@18/ort-cpu",
        "onnx-dynamo@23/ort-cpu",
        "onnx-dynamo@23+fixes/ort-cpu",
    )
}
FORMATS = {
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "program": "programs of torch.export",
    "aoti": "libraries of AOTInductor",
}


@runtime_checkable
class Choosy(Protocol):
    """A runtime that can say, before anything is loaded, whether it takes a target's options."""

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`UsageError` for a key or a value that the runtime does not take."""
        ...


def parse_target(text: str, where: Location | None = None) -> Target:
    """The target that ``text`` names, checked against the exporters and runtimes that there are.

    Raises :class:`UsageError`, or where the text stands in a file (``where``) :class:`SpecError`.
    """
    try:
        return _target(text.strip())
    except UsageError as error:
        if where is None:
            raise
        wrong, _, right = str(error).partition("; ")
        raise SpecError([Problem(where, wrong, right)]) from None


def _target(text: str) -> Target:
    parts = TARGET.fullmatch(text)
    if parts is None:
        raise UsageError(f"{text}: not a target; write {FORM}")
    exporters, runtimes = plugins("exporters"), plugins("runtimes")
    name, runs = parts["exporter"], parts["runtime"]
    for word, known, kind in ((name, [*exporters, FILE], "exporter"), (runs, [*runtimes], "runtime")):
        if word not in known:
            raise UsageError(f"{text}: no {kind} {word}; {suggestion(word, known, f'one of {listed_names(known)}')}")
    makes, takes = "onnx" if name == FILE else exporters[name].makes, runtimes[runs].takes
    if makes != takes:
        fitting = listed_names(each for each, runtime in runtimes.items() if runtime.takes == makes)
        wrong = f"{name} makes {FORMATS[makes]}, {runs} runs {FORMATS[takes]}"
        raise UsageError(f"{text}: {wrong}; with {name} use one of {fitting}")
    if name == FILE and (parts["opset"] is not None or parts["fixes"] is not None):
        raise UsageError(f"{text}: a file is verified as it is; write {FILE}/{runs}")
    if parts["fixes"] not in {None, "+fixes"}:
        raise UsageError(f"{text}: {parts['fixes']} is not known; the only one is +fixes")
    return Target(
        exporter=name,
        runtime=runs,
        opset=_opset(text, name, makes, parts["opset"]),
        fixes=parts["fixes"] is not None,
        options=_taken(text, runtimes[runs], _options(text, runs, runtimes[runs].options, parts["options"])),
    )


def _opset(text: str, exporter: str, makes: str, opset: str | None) -> int | None:
    if opset is None:
        return None
    if makes != "onnx":
        raise UsageError(f"{text}: {exporter} makes {FORMATS[makes]}, which has no opset; remove @{opset}")
    if not re.fullmatch(r"[1-9][0-9]?", opset):
        raise UsageError(f"{text}: @{opset} is not an opset; write a whole number, such as {exporter}@18")
    return int(opset)


def _options(text: str, runtime: str, known: Mapping[str, str], written: str | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in written.split("&") if written is not None else ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{text}: {pair!r} is not an option; write ?option=value&...")
        if key not in known:
            right = suggestion(key, known, f"it has {listed_names(known)}" if known else "it has none")
            raise UsageError(f"{text}: {runtime} has no option {key}; {right}")
        if key in options:
            raise UsageError(f"{text}: {key} is set twice; set it once")
        options[key] = value
    return options


def _taken(text: str, runtime: Any, options: dict[str, str]) -> dict[str, str]:
    """``options``, where the runtime takes their values too, as far as it can say so before anything is loaded."""
    if isinstance(runtime, Choosy):
        try:
            runtime.check(options)
        except UsageError as error:
            raise UsageError(f"{text}: {error}") from None
    return options


@dataclass(frozen=True, slots=True)
class TargetSets:
    """Sets of targets by name; ``exported`` and ``recorded`` say what they are for: cases of specs, recorded models."""

    sets: Mapping[str, tuple[Target, ...]]
    exported: bool = True
    recorded: bool = False

    @property
    def all(self) -> tuple[Target, ...]:
        """Every target that a set names, once; with recorded models, every one that a file can be taken to as well."""
        return (*self._written, *every_file_target()) if self.recorded else self._written

    @property
    def _written(self) -> tuple[Target, ...]:
        return _once(target for targets in self.sets.values() for target in targets)

    def select(self, words: Sequence[str] = (DEFAULT,)) -> tuple[Target, ...]:
        """The targets that ``words`` name, each once, in order; the default set where there are no words.

        A word, or each part of a comma list, is the name of a set, a target, or with ``*`` a glob over the
        targets of all sets: over the whole target where it has a ``/``, else over the runtime. For recorded models
        it may be a runtime too, and a glob goes over all runtimes.
        Raises :class:`UsageError` for a word that names nothing.
        """
        parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
        return _once(target for part in parts or [DEFAULT] for target in self._named(part))

    def _named(self, word: str) -> Iterator[Target]:
        for_files = self._for_files(word) if self.recorded else ()
        if self.exported or not for_files:
            try:
                yield from self._of_sets(word)
            except UsageError:
                if not for_files:
                    raise
        yield from for_files

    def _for_files(self, word: str) -> tuple[Target, ...]:
        if word not in self.sets:
            return file_targets(word)
        written = tuple(target for target in self.sets[word] if target.exporter == FILE)
        return written or ((ORDINARY,) if word == DEFAULT else ())

    def _of_sets(self, word: str) -> Iterator[Target]:
        if word in self.sets:
            yield from self.sets[word]
        elif "*" in word:
            found = [
                target for target in self._written if matches(word, str(target) if "/" in word else target.runtime)
            ]
            if not found:
                raise UsageError(f"{word}: no target matches; there are {listed_names(map(str, self._written))}")
            yield from found
        elif "/" in word:
            yield parse_target(word)
        else:
            known = [*self.sets, *map(str, self._written)]
            whole = [each for each in known if word in each.split("/")]
            otherwise = f"one of the sets {listed_names(self.sets)}, or a target {FORM}"
            right = f"did you mean {listed_names(whole)}?" if whole else suggestion(word, known, otherwise)
            raise UsageError(f"{word}: no set of targets is called so; {right}")


@few_comparisons()
def load_target_sets(root: Path | str, *, exported: bool = True, recorded: bool = False) -> TargetSets:
    """The sets of ``targets.yaml`` in ``root``, over the built-in ``default``; for what, as :class:`TargetSets` says.

    Raises :class:`SpecError` with every problem of the file.
    """
    path = Path(root) / "targets.yaml"
    built_in = {name: tuple(map(parse_target, targets)) for name, targets in BUILT_IN.items()}
    if not os.path.lexists(path):
        return TargetSets(built_in, exported, recorded)
    problems: list[Problem] = []
    tree = read(path, problems)
    with collecting(problems):
        validated(_Sets, tree)
    sets: dict[str, tuple[Target, ...]] = {}
    for name, node in ((str(key), node) for key, node in tree.entries.items()):
        problems += _set_problems(name, node, tree)
        targets = []
        for item in node.items:
            if isinstance(item.value, str):
                with collecting(problems):
                    targets.append(parse_target(item.value, item.where))
        problems += _repeated(targets, node) if len(targets) == len(node.items) else ()
        sets[name] = tuple(targets)
    if problems:
        raise SpecError(problems)
    return TargetSets({**built_in, **sets}, exported, recorded)


class _Sets(RootModel[dict[str, list[str]]]):
    """Targets by the name of their set."""


def _set_problems(name: str, node: Node, tree: Node) -> Iterator[Problem]:
    if not SET_NAME.fullmatch(name):
        yield Problem(tree.keys[name], f"{name!r} cannot name a set", "letters, digits, `.`, `_` and `-` only")
    if not node.items:
        yield Problem(node.where, f"{name}: a set without targets", "name one, such as trace/torch-cpu")


def _repeated(targets: Sequence[Target], node: Node) -> Iterator[Problem]:
    seen = set()
    for at, target in enumerate(targets):
        whole = (target.export, target.runtime, frozenset(target.options.items()))
        if whole in seen:
            yield Problem(node.items[at].where, f"{target}: twice in one set", "name it once")
        seen.add(whole)


def _once(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Each target once, in order; targets hold a mapping and have no hash."""
    return tuple({str(target): target for target in targets}.values())


ORDINARY = Target(FILE, "ort-cpu")
"""Where a recorded model is taken when nothing is asked for."""


def every_file_target() -> tuple[Target, ...]:
    """A recorded model's file on each runtime that runs ONNX, whether it is on this machine or not."""
    return tuple(Target(FILE, name) for name, runtime in plugins("runtimes").items() if runtime.takes == "onnx")


def file_targets(word: str) -> tuple[Target, ...]:
    """What ``word`` means for a recorded model: the name of a runtime, or a glob over runtimes or whole targets.

    Of several that a glob matches, those count that are on this machine, where any is: whoever writes ``ort-*`` means
    whichever there is. Nothing where the word means nothing here.
    """
    every = every_file_target()
    if "*" not in word:
        return tuple(target for target in every if target.runtime == word)
    found = [target for target in every if matches(word, str(target) if "/" in word else target.runtime)]
    present = [target for target in found if plugins("runtimes")[target.runtime].availability().present]
    return tuple(present or found)
