"""Targets, each an exporter with its opset and a runtime with its options, and the named sets in ``targets.yaml``.

A target is written ``EXPORTER[@OPSET][+fixes][+TRANSFORM]...[?option=value&...]/RUNTIME[?option=value&...]``. The
first options are those of the exporter and the transforms, the last ones the runtime's. A recorded model has the
targets ``file/RUNTIME[?...]``, its file on any runtime that runs ONNX. A file under test, which a spec names under
``files``, has the targets ``file:NAME[+TRANSFORM]...[?...]/RUNTIME[?...]``, on any runtime that runs its format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote

from harness.errors import Location, Problem, SpecError, UsageError
from harness.registry import plugins
from harness.spec.quoting import join_names, suggestion

FILE = "file"
"""The exporter's name in a target for a model that exists as a file already and is not exported."""
TESTED_FILE = "file:"
"""The beginning of the exporter's name in a target for a file under test; the rest is its name in the spec."""


@dataclass(frozen=True)
class Target:
    """The exporter of a case, what is done to the exported file, and the runtime that runs it.

    ``options`` are the runtime's, ``export_options`` those of the exporter and the ``transforms``.
    """

    exporter: str
    runtime: str
    opset: int | None = None
    fixes: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    transforms: tuple[str, ...] = ()
    export_options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.export}/{self.runtime}{_written_options(self.options)}"

    @cached_property
    def export(self) -> str:
        """The part before the slash: targets with the same one share an artifact."""
        opset = "" if self.opset is None else f"@{self.opset}"
        suffixes = "".join(f"+{word}" for word in (*(("fixes",) if self.fixes else ()), *self.transforms))
        options = {key: _OPTION_SEPARATORS.sub(_escaped, value) for key, value in self.export_options.items()}
        return f"{self.exporter}{opset}{suffixes}{_written_options(options)}"

    @property
    def untransformed(self) -> Target:
        """The target of the file that the transforms start from."""
        return self.with_first_transforms(0)

    def with_first_transforms(self, count: int) -> Target:
        """The target with its first ``count`` transforms alone, and the options that the rest accepts."""
        words = self.transforms[:count]
        kept = {*exporter_options(plugins("exporters")[self.exporter])} if self.exports else set()
        kept |= {name for word in words for name in transform_named(word).options}
        options = {key: value for key, value in self.export_options.items() if key in kept}
        return replace(self, transforms=words, export_options=options)

    @property
    def tested_file(self) -> str | None:
        """The name of the file under test; None for a target that exports, or runs a recorded model."""
        return self.exporter.removeprefix(TESTED_FILE) if self.exporter.startswith(TESTED_FILE) else None

    @property
    def in_onnx(self) -> Target:
        """The target without a last transform to another format: its file computes the same, and can be read."""
        return self if self.makes == "onnx" or not self.transforms else self.with_first_transforms(-1)

    @property
    def makes(self) -> str:
        """The format of the exported file after the transforms. The file of a target that exports nothing is ONNX."""
        if self.transforms:
            return str(transform_named(self.transforms[-1]).makes)
        return str(plugins("exporters")[self.exporter].makes) if self.exports else "onnx"

    @property
    def exports(self) -> bool:
        """True if the target's file is exported, False if it exists already."""
        return self.exporter != FILE and self.tested_file is None


_OPTION_SEPARATORS = re.compile(r"[%&]")
"""What a value of an option before the slash is written without: ``%26`` stands for ``&``."""


def _escaped(separator: re.Match[str]) -> str:
    return f"%{ord(separator[0]):02X}"


def _written_options(options: Mapping[str, str]) -> str:
    return "?" + "&".join(f"{key}={value}" for key, value in options.items()) if options else ""


def exporter_options(exporter: Any) -> Mapping[str, str]:
    """The options that a target may set for ``exporter``, each with one line on its meaning and its values."""
    return getattr(exporter, "options", {})


TARGET_SYNTAX = "EXPORTER[@OPSET][+fixes][+TRANSFORM]...[?option=value&...]/RUNTIME[?option=value&...]"
TARGET = re.compile(
    r"(?P<exporter>[^/@+?]+)(@(?P<opset>[^/@+?]*))?(?P<suffixes>(\+[^/@+?]*)*)(\?(?P<export_options>.*?))?"
    r"/(?P<runtime>[^/?&=]+)(\?(?P<options>.*))?"
)
TESTED_FILE_NAME = re.compile(rf"{TESTED_FILE}[A-Za-z0-9._-]+")
FORMATS = {
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "ort": "ONNX Runtime's own format",
    "program": "programs of torch.export",
    "aoti": "libraries of AOTInductor",
}


@runtime_checkable
class ChecksOptions(Protocol):
    """A runtime or an exporter that can check the options of a target before anything is loaded or exported."""

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`UsageError` for a key or a value that is not accepted."""
        ...


def parse_target(text: str, where: Location | None = None) -> Target:
    """The target that ``text`` names, checked against the registered exporters and runtimes.

    Raises :class:`UsageError`, or :class:`SpecError` if ``where`` gives the place of the text in a file.
    """
    try:
        return _target(text.strip())
    except UsageError as error:
        if where is None:
            raise
        message, _, remedy = str(error).partition("; ")
        raise SpecError([Problem(where, message, remedy)]) from None


def _target(text: str) -> Target:
    parts = TARGET.fullmatch(text)
    if parts is None:
        raise UsageError(f"{text}: not a target; write {TARGET_SYNTAX}")
    exporters, runtimes = plugins("exporters"), plugins("runtimes")
    exporter, runtime = parts["exporter"], parts["runtime"]
    is_tested_file = TESTED_FILE_NAME.fullmatch(exporter) is not None
    for name, names, kind in ((exporter, [*exporters, FILE], "exporter"), (runtime, [*runtimes], "runtime")):
        if name not in names and not (is_tested_file and kind == "exporter"):
            raise UsageError(f"{text}: no {kind} {name}; {suggestion(name, names, f'one of {join_names(names)}')}")
    is_file = exporter == FILE or is_tested_file
    makes = "onnx" if is_file else exporters[exporter].makes
    # The format of a file under test is known from the spec alone.
    if not is_tested_file and not runs_format(runtimes[runtime], makes):
        raise _wrong_runtime(text, exporter, makes, runtime)
    suffixes = parts["suffixes"].split("+")[1:]
    fixes = suffixes[:1] == ["fixes"]
    of_export = parts["opset"] is not None or fixes
    if is_file and (of_export or (exporter == FILE and (suffixes or parts["export_options"] is not None))):
        raise UsageError(f"{text}: a file is verified as it is; write {exporter}/{runtime}")
    transforms = tuple(suffixes[int(fixes) :])
    known = {word: _transform(text, word) for word in transforms}
    if transforms and makes != "onnx":
        raise UsageError(
            f"{text}: {exporter} makes {FORMATS[makes]}, and transforms change ONNX files; remove +{transforms[0]}"
        )
    for at, word in enumerate(transforms):
        transform = known[word]
        if transform.makes != "onnx" and at != len(transforms) - 1:
            raise UsageError(
                f"{text}: +{word} makes {FORMATS[transform.makes]}, which no transform changes; write it last"
            )
        if not runs_format(runtimes[runtime], transform.makes):
            raise _wrong_runtime(text, f"+{word}", transform.makes, runtime)
    return Target(
        exporter=exporter,
        runtime=runtime,
        opset=_opset(text, exporter, makes, parts["opset"]),
        fixes=fixes,
        options=_checked_options(text, runtime, runtimes[runtime], parts["options"]),
        transforms=transforms,
        export_options=_export_options(text, exporters.get(exporter), known, parts["export_options"]),
    )


def split_target(text: str) -> tuple[str, str]:
    """The export and the runtime of a target, each with its options; an option of the export may hold a slash."""
    parts = TARGET.fullmatch(text)
    if parts is None:
        export, _, runtime = text.partition("/")
        return export, runtime
    return text[: parts.start("runtime") - 1], text[parts.start("runtime") :]


def runs_format(runtime: Any, format_: str) -> bool:
    """True if ``runtime`` loads files of this format. ONNX Runtime loads its own format on every provider."""
    return format_ == runtime.takes or format_ in getattr(runtime, "also_takes", ())


def _wrong_runtime(text: str, maker: str, makes: str, runtime: str) -> UsageError:
    runtimes = plugins("runtimes")
    fitting = join_names(name for name, each in runtimes.items() if runs_format(each, makes))
    message = f"{maker} makes {FORMATS[makes]}, {runtime} runs {FORMATS[runtimes[runtime].takes]}"
    return UsageError(f"{text}: {message}; with {maker} use one of {fitting}")


def transform_named(word: str) -> Any:
    """The transform that ``word`` names in a target; None if there is none. ``opset18`` names ``opsetN``."""
    transforms = plugins("transforms")
    return transforms.get(word) or transforms.get(re.sub(r"[1-9][0-9]*$", "N", word))


def _transform(text: str, word: str) -> Any:
    transform = transform_named(word)
    if transform is None:
        names = [*plugins("transforms"), "fixes"]
        if word == "fixes":
            raise UsageError(f"{text}: +fixes belongs to the exporter; write it before the transforms, once")
        raise UsageError(f"{text}: no transform +{word}; {suggestion(word, names, f'one of {join_names(names)}')}")
    return transform


def _export_options(text: str, exporter: Any, transforms: Mapping[str, Any], written: str | None) -> dict[str, str]:
    """The options before the slash. Each belongs to the exporter or to a transform, which check its value."""
    of_exporter = {} if exporter is None else exporter_options(exporter)
    supported = {**of_exporter, **{key: line for each in transforms.values() for key, line in each.options.items()}}
    names = " and ".join(([exporter.name] if exporter is not None else []) + [f"+{word}" for word in transforms])
    options = {key: unquote(value) for key, value in _options(text, names or FILE, supported, written).items()}
    try:
        if exporter is not None and isinstance(exporter, ChecksOptions):
            exporter.check({key: value for key, value in options.items() if key in of_exporter})
        for transform in transforms.values():
            transform.check({key: value for key, value in options.items() if key in transform.options})
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from None
    return options


def _opset(text: str, exporter: str, makes: str, opset: str | None) -> int | None:
    if opset is None:
        return None
    if makes != "onnx":
        raise UsageError(f"{text}: {exporter} makes {FORMATS[makes]}, which has no opset; remove @{opset}")
    if not re.fullmatch(r"[1-9][0-9]?", opset):
        raise UsageError(f"{text}: @{opset} is not an opset; write a whole number, such as {exporter}@18")
    return int(opset)


def _checked_options(text: str, name: str, runtime: Any, written: str | None) -> dict[str, str]:
    """The options of a target; their values are checked as far as the runtime can before anything is loaded."""
    options = _options(text, name, runtime.options, written)
    if isinstance(runtime, ChecksOptions):
        try:
            runtime.check(options)
        except UsageError as error:
            raise UsageError(f"{text}: {error}") from None
    return options


def _options(text: str, owner: str, supported: Mapping[str, str], written: str | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in written.split("&") if written is not None else ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{text}: {pair!r} is not an option; write ?option=value&...")
        if key not in supported:
            they, have = ("they", "have") if " and " in owner else ("it", "has")
            available = f"{they} {have} {join_names(supported) if supported else 'none'}"
            remedy = suggestion(key, supported, available)
            raise UsageError(f"{text}: {owner} {have} no option {key}; {remedy}")
        if key in options:
            raise UsageError(f"{text}: {key} is set twice; set it once")
        options[key] = value
    return options
