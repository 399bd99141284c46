"""TorchScript exporters: ``trace`` records what one call does, ``script`` compiles the module with its control flow.

The digest of a TorchScript archive is computed from its contents, so that the same program has the same digest in
every process. Three things in an archive depend on the process that wrote it:

- The second class of one name gets a number that the process counts up, as in
  ``activation.___torch_mangle_3.Sigmoid``. So it is also stored in another file than the first.
- Local variables are numbered through a whole file, so their numbers depend on what else the file holds.
- The constants of a class are written in the order of a set of names, which Python orders differently in each process.

So the digest reads definitions in the order in which the program refers to them, beginning with its data. It numbers
definitions of one name in this order, and the local variables of each definition anew, and it sorts constants.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.exporters import Artifact, ExportOptions, Format
from harness.exporters._files import refusals_as_unsupported, staged_write, structure_files
from harness.exporters._torch_state import own_class_names
from harness.exporters._tracer_warnings import recorded_tracer_warnings

if TYPE_CHECKING:
    import torch

    from harness.model.build import Subject


class Trace(ExportOptions):
    """``torch.jit.trace(module, inputs)``, with torch's own check of the trace left on."""

    name = "trace"
    makes: Format = "torchscript"
    switches: Mapping[str, str] = {
        "strict": "refuse a module that returns a mutable container (default: on, and off where torch asks for it)",
        "check_trace": "torch's own check of the trace (torch's default: on)",
    }

    def opsets(self) -> range:
        """Empty: TorchScript has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        from harness.fixes import corrected

        del opset
        module, inputs = subject.fresh()
        notes: tuple[str, ...] = ()
        arguments = self.arguments(options)
        with refusals_as_unsupported(), torch.no_grad(), recorded_tracer_warnings() as places:
            traced_module = corrected(module) if fixes else module
            try:
                traced = torch.jit.trace(traced_module, inputs, **arguments)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                if "strict=False" not in str(error) or "strict" in arguments:
                    raise
                module, inputs = subject.fresh()  # the failed trace called the module
                traced_module = corrected(module) if fixes else module
                traced = torch.jit.trace(traced_module, inputs, strict=False, **arguments)  # type: ignore[no-untyped-call]
                notes = (_NOT_STRICT,)
        return replace(_saved(traced, subject, path), notes=notes, tracer_warnings=tuple(places))


_NOT_STRICT = "traced with strict=False, because the module returns a dict"


class Script:
    """``torch.jit.script(module)``.

    A failed ``torch.jit.script`` leaves state behind in the process (a second ``MaxUnpool2d`` fails with another
    error than the first), so the caller should not use the process for further exports.
    """

    name = "script"
    makes: Format = "torchscript"

    def opsets(self) -> range:
        """Empty: TorchScript has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        from harness.fixes import corrected

        del opset, options
        module, _ = subject.fresh()
        with refusals_as_unsupported(), own_class_names():
            scripted = torch.jit.script(corrected(module) if fixes else module)
        return _saved(scripted, subject, path)


def _saved(module: torch.jit.ScriptModule, subject: Subject, path: Path) -> Artifact:
    import torch

    with staged_write(path) as staging_path:
        torch.jit.save(module, staging_path, _extra_files=structure_files(subject))
        digest = archive_digest(staging_path)
    return Artifact("torchscript", path, digest)


_MANGLE_NUMBER = re.compile(rb"\.___torch_mangle_\d+")
# In code a qualified name is written with dots; in a pickle its last part stands on a line of its own.
_QUALIFIED_NAME = re.compile(rb"__torch__(?:\.\w+)*(?:\n\w+(?=\n))?")
_DEFINITION_START = re.compile(rb"^(?=class |def )", re.MULTILINE)
_DEFINED_NAME = re.compile(rb"(?:class|def) (\w+)")
_LOCAL_VARIABLE = re.compile(rb"(?<![\w.])_\d+(?!\w)")
_CONSTANTS = re.compile(rb"(?:^  \S+ : Final\[.*\n)+", re.MULTILINE)
# A hash of the archive's own names, and the Python source lines that the code came from.
_IGNORED_RECORDS = (".data/serialization_id", ".debug_pkl")


def archive_digest(path: Path) -> str:
    """The SHA-256 of everything that a runtime reads from the archive, without what depends on the writing process."""
    records = dict(_records(path))
    code_files = {name for name in records if name.startswith("code/") and name.endswith(".py")}
    names = _CanonicalNames(dict(item for name in code_files for item in _definitions(name, records[name])))
    data = {name: content for name, content in records.items() if name not in code_files}
    digest = hashlib.sha256()
    for name, content in sorted(data.items(), key=lambda record: (record[0] != "data.pkl", record[0])):
        _add(digest, name.encode(), names.replace_in(content) if name.endswith(".pkl") else content)
    for canonical_name, text in names.definitions():
        _add(digest, canonical_name, text)
    return digest.hexdigest()


def _records(path: Path) -> Iterator[tuple[str, bytes]]:
    """The archive's records by name: by torch's own reader if this release has it, because it is much faster."""
    import torch

    if (reader := getattr(torch._C, "PyTorchFileReader", None)) is not None:  # noqa: SLF001
        archive = reader(str(path))
        record_names = [name for name in archive.get_all_records() if not name.endswith(_IGNORED_RECORDS)]
        yield from ((name, archive.get_record(name)) for name in record_names)
        return
    with zipfile.ZipFile(path) as zipped:
        for name in zipped.namelist():
            if not name.endswith(_IGNORED_RECORDS):
                yield name.partition("/")[2], zipped.read(name)


def _add(digest: hashlib._Hash, name: bytes, content: bytes) -> None:
    digest.update(b"%s %d\n%s" % (name, len(content), content))


def _definitions(file_name: str, code: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The classes and functions of a code file by qualified name, with sorted constants."""
    module = file_name.removeprefix("code/").removesuffix(".py").replace("/", ".").encode()
    for text in _DEFINITION_START.split(code):
        definition = _DEFINED_NAME.match(text)
        qualified_name = module if definition is None else module + b"." + definition[1]
        if definition is None and not text.strip():
            continue
        yield qualified_name, _renumbered(_CONSTANTS.sub(_sorted_lines, text))


def _sorted_lines(lines: re.Match[bytes]) -> bytes:
    return b"".join(sorted(lines[0].splitlines(keepends=True)))


def _renumbered(text: bytes) -> bytes:
    """``text`` with its local variables numbered in the order in which they occur."""
    numbers: dict[bytes, bytes] = {}
    return _LOCAL_VARIABLE.sub(lambda name: numbers.setdefault(name[0], b"_%d" % len(numbers)), text)


class _CanonicalNames:
    """The definitions of an archive, renamed in the order in which the program refers to them."""

    def __init__(self, texts: dict[bytes, bytes]) -> None:
        self._texts = texts
        self._canonical: dict[bytes, bytes] = {}
        self._uses: Counter[bytes] = Counter()

    def replace_in(self, text: bytes) -> bytes:
        """``text`` with canonical names: the name without torch's number, and its position among equal names."""
        return _QUALIFIED_NAME.sub(lambda match: self._canonical_name(match[0].replace(b"\n", b".")), text)

    def definitions(self) -> Iterator[tuple[bytes, bytes]]:
        """All definitions by canonical name, in order of first reference; definitions without a reference come last."""
        done: set[bytes] = set()
        while pending := [name for name in self._canonical if name not in done]:
            for name in pending:
                done.add(name)
                yield self._canonical[name], self.replace_in(self._texts[name])
        for name in sorted(self._texts.keys() - done):
            yield _MANGLE_NUMBER.sub(b"", name), self.replace_in(self._texts[name])

    def _canonical_name(self, name: bytes) -> bytes:
        definition = name
        while definition and definition not in self._texts:  # the name of a method begins with that of its class
            definition = definition.rpartition(b".")[0]
        if definition and definition not in self._canonical:
            plain_name = _MANGLE_NUMBER.sub(b"", definition)
            self._canonical[definition] = b"%s#%d" % (plain_name, self._uses[plain_name])
            self._uses[plain_name] += 1
        return self._canonical.get(definition, b"") + _MANGLE_NUMBER.sub(b"", name[len(definition) :])


PROVIDES = (Trace(), Script())
