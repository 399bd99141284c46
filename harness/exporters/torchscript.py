"""What a TorchScript archive holds, as one digest that is the same for the same program, whatever process wrote it.

Two things in an archive are its process's own. The second class of one name is set apart by a number that the process
counts up, as in ``activation.___torch_mangle_3.Sigmoid``, and so it stands in another file than the first. And a
class's constants are written in the order of a set of names, which Python orders anew in each process. So definitions
are told here in the order in which the program comes to them, beginning with its data; the second of one name is the
one that it comes to second; and constants are sorted.

TorchScript by tracing: ``torch.jit.trace``, which records what one call does.

TorchScript by compiling: ``torch.jit.script``, which keeps the module's control flow.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.exporters import Artifact, Format
from harness.exporters._files import refusals_named, staged

if TYPE_CHECKING:
    from harness.model.build import Subject


NUMBER = re.compile(rb"\.___torch_mangle_\d+")
# In code a name is written with dots alone, in a pickle what comes after the last one stands on a line of its own.
NAME = re.compile(rb"__torch__(?:\.\w+)*(?:\n\w+(?=\n))?")
BEGINNING = re.compile(rb"^(?=class |def )", re.MULTILINE)
DEFINED = re.compile(rb"(?:class|def) (\w+)")
CONSTANTS = re.compile(rb"(?:^  \S+ : Final\[.*\n)+", re.MULTILINE)
# A hash of the archive's own names, and the lines of Python that the code came from.
ASIDE = (".data/serialization_id", ".debug_pkl")


def digest_of(path: Path) -> str:
    """The SHA-256 of all that a runtime reads from the archive, but for what its process alone decided."""
    members = dict(_members(path))
    code = {name for name in members if name.startswith("code/") and name.endswith(".py")}
    program = _Program(dict(part for name in code for part in _definitions(name, members[name])))
    data = {name: held for name, held in members.items() if name not in code}
    digest = hashlib.sha256()
    for name, held in sorted(data.items(), key=lambda member: (member[0] != "data.pkl", member[0])):
        _add(digest, name.encode(), program.told(held) if name.endswith(".pkl") else held)
    for called, text in program.definitions():
        _add(digest, called, text)
    return digest.hexdigest()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """What the archive holds, by name: by torch's own reader, where this release has it, which is far quicker."""
    import torch

    if (reader := getattr(torch._C, "PyTorchFileReader", None)) is not None:  # noqa: SLF001
        archive = reader(str(path))
        yield from ((name, archive.get_record(name)) for name in archive.get_all_records() if not name.endswith(ASIDE))
        return
    with zipfile.ZipFile(path) as zipped:
        for name in zipped.namelist():
            if not name.endswith(ASIDE):
                yield name.partition("/")[2], zipped.read(name)


def _add(digest: hashlib._Hash, name: bytes, held: bytes) -> None:
    digest.update(b"%s %d\n%s" % (name, len(held), held))


def _definitions(name: str, code: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The classes and functions of a file, by their full names."""
    module = name.removeprefix("code/").removesuffix(".py").replace("/", ".").encode()
    for text in BEGINNING.split(code):
        defined = DEFINED.match(text)
        own = module if defined is None else module + b"." + defined[1]
        yield own, CONSTANTS.sub(lambda found: b"".join(sorted(found[0].splitlines(keepends=True))), text)


class _Program:
    """Definitions, and what each is called by when the program came to it."""

    def __init__(self, texts: dict[bytes, bytes]) -> None:
        self._texts = texts
        self._called: dict[bytes, bytes] = {}
        self._of_one_name: Counter[bytes] = Counter()

    def told(self, text: bytes) -> bytes:
        """``text`` with every definition called by its name, and by how many of that name came before it."""
        return NAME.sub(lambda found: self._call(found[0].replace(b"\n", b".")), text)

    def definitions(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them, in the order in which the program comes to them; what it never comes to is last."""
        told: set[bytes] = set()
        while left := [name for name in self._called if name not in told]:
            for name in left:
                told.add(name)
                yield self._called[name], self.told(self._texts[name])
        for name in sorted(self._texts.keys() - told):
            yield NUMBER.sub(b"", name), self.told(self._texts[name])

    def _call(self, name: bytes) -> bytes:
        own = name
        while own and own not in self._texts:  # a method, say, is named after its class
            own = own.rpartition(b".")[0]
        if own and own not in self._called:
            plain = NUMBER.sub(b"", own)
            self._called[own] = b"%s#%d" % (plain, self._of_one_name[plain])
            self._of_one_name[plain] += 1
        return self._called.get(own, b"") + NUMBER.sub(b"", name[len(own) :])


class Trace:
    """``torch.jit.trace(module, inputs)``, with its own check of the trace left on."""

    name = "trace"
    makes: Format = "torchscript"

    def opsets(self) -> range:
        """None: TorchScript has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        from harness.fixes import corrected

        del opset
        module, inputs = subject.fresh()
        with refusals_named():
            traced = torch.jit.trace(corrected(module) if fixes else module, inputs)  # type: ignore[no-untyped-call]
        with staged(path) as draft:
            torch.jit.save(traced, draft)
            digest = digest_of(draft)
        return Artifact("torchscript", path, digest)


class Script:
    """``torch.jit.script(module)``.

    A script that fails leaves state behind in the process (a second ``MaxUnpool2d`` fails with
    another error than the first), so the caller should not trust a process after one.
    """

    name = "script"
    makes: Format = "torchscript"

    def opsets(self) -> range:
        """None: TorchScript has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        from harness.fixes import corrected

        del opset
        module, _ = subject.fresh()
        with refusals_named():
            scripted = torch.jit.script(corrected(module) if fixes else module)
        with staged(path) as draft:
            torch.jit.save(scripted, draft)
            digest = digest_of(draft)
        return Artifact("torchscript", path, digest)


PROVIDES = (Trace(), Script())
