"""The targets that a bundle can be taken to: each of its exports, on every runtime that runs that format.

``manifest.json`` of a bundle: what was packed, by what it is held to, and the SHA-256 of every file.

    format        the version of this layout; a key that bundles without it can lack can be added without a new one
    seal          the SHA-256 of all else in the manifest
    versions      of the packages that the bundle was made with
    targets       what it was packed for
    files         SHA-256 by path, for every file of the bundle but this one
    cases         each with its exports, what they are held to, and what there is no file of, with the reason

:mod:`harness.spec.bundle.entries` has what it says of each case.

A bundle: a folder that ``harness pack`` wrote, read where the specs, and torch, are not.

    manifest.json              what is here, what it is held to, and the SHA-256 of every file
    known-failures.yaml        what the specs' own list says of it
    onnx/test_.../             one export of a case, as ONNX's backend tests are kept
    unanswered/test_.../       one without a whole answer: a stochastic layer, a case to be refused, a large size
    torchscript/test_.../      one export of a case, as model.pt
    data/                      every recorded array once, by its own SHA-256

Every file is held against its checksum before anything runs. Nothing outside the folder is read. Nothing else may be in
it, except hidden files and the reports of runs that were started there. The checksums tell damage and haste; who wrote
the bundle they do not tell.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from harness.errors import Location, RuntimeMissing, UsageError
from harness.registry import plugins
from harness.spec.bundle.entries import PACK_ANEW, CaseEntry, Digest, Inside
from harness.spec.language.case import Case, Expectation, PackedModel, WeightedModel
from harness.spec.quoting import listed_names, suggestion
from harness.spec.targets import DEFAULT, Target, TargetSets, parse_target
from harness.spec.yaml.strict import Strict, place_in, read_json, refused

EVERY = "all"


@dataclass(frozen=True)
class BundleTargets(TargetSets):
    """The set ``default`` is what the bundle was packed for, the set ``all`` everything that it can be taken to.

    As for recorded models, a word may be a runtime, and of several targets that a glob matches those count whose
    runtime is on this machine: whoever writes ``ort-*`` means whichever there is. Raises :class:`RuntimeMissing` where
    there is none.
    """

    exports: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, packed_for: Sequence[str], where: Location) -> BundleTargets:
        """For the targets that the bundle was packed for. Raises :class:`SpecError` for one that is none."""
        ordinary = tuple(parse_target(text, where) for text in packed_for)
        formats = {target.export: plugins("exporters")[target.exporter].makes for target in ordinary}
        return cls({DEFAULT: ordinary, EVERY: every_target(formats, where)}, exports=tuple(formats))

    def _of_sets(self, word: str) -> Iterator[Target]:
        named = "*" in word or "/" in word or word in self.sets or word not in plugins("runtimes")
        # An export may hold no star, so that a runtime's own name matches as a glob does.
        found = tuple(super()._of_sets(word if named else f"*/{word}"))
        for target in found:
            if target.export not in self.exports:
                right = suggestion(target.export, self.exports, f"it holds {listed_names(self.exports)}")
                raise UsageError(f"{word}: the bundle has no export {target.export}; {right}")
        if "*" not in word:
            yield from found
            return
        available = {target.runtime: plugins("runtimes")[target.runtime].availability() for target in found}
        present = tuple(target for target in found if available[target.runtime].present)
        if found and not present:
            # One that could run anywhere says most of what to do; it comes before those that want a device.
            first = min(available, key=lambda runtime: (not runtime.endswith("-cpu"), runtime))
            raise RuntimeMissing(f"{word}: none of these runtimes is here; {available[first].why_not(first)}")
        yield from present


def every_target(formats: Mapping[str, str], where: Location | None = None) -> tuple[Target, ...]:
    """Each export on every runtime that runs its format, whether it is on this machine or not."""
    return tuple(
        parse_target(f"{export}/{name}", where)
        for export, form in formats.items()
        for name, runtime in plugins("runtimes").items()
        if runtime.takes == form
    )


MANIFEST = "manifest.json"
FORMAT = 1


class Manifest(Strict):
    """The whole of ``manifest.json``."""

    format: Literal[1]
    seal: Digest
    versions: dict[str, str]
    targets: Annotated[list[str], Field(min_length=1)]
    files: dict[Inside, Digest]
    cases: Annotated[list[CaseEntry], Field(min_length=1)]

    @property
    def entries(self) -> Iterator[CaseEntry]:
        """Every case at every shape."""
        return (entry for case in self.cases for entry in case.at_every_shape())

    @property
    def exports(self) -> tuple[str, ...]:
        """The first half of each target that it was packed for."""
        return tuple(dict.fromkeys(target.partition("/")[0] for target in self.targets))


def seal_of(content: dict[str, Any]) -> str:
    """The SHA-256 of a manifest without its seal, in one spelling."""
    told = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``.

    Raises :class:`SpecError`, one line a problem, where it is cut short, of a newer format, not a bundle's, or was
    changed after it was written.
    """
    if not path.is_file():
        raise refused(path, "this is not a file", PACK_ANEW)
    if path.is_symlink():
        raise refused(path, "a link, which may lead out of the bundle", "put the file itself there")
    raw = read_json(path, "the manifest", PACK_ANEW)
    newest = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or type(newest) is not int or newest < 1:
        raise refused(path, "this is not the manifest of a bundle: it has no `format` number", PACK_ANEW)
    if newest > FORMAT:
        raise refused(path, f"this bundle is of format {newest}", f"this harness reads format {FORMAT}; update it")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False)
        more = f" (and {len(others)} more)" if others else ""
        raise refused(path, f"{place_in(first['loc'])}: {_said(first['msg'])}{more}", PACK_ANEW) from error
    if manifest.seal != seal_of(raw):
        raise refused(path, "it was changed after it was packed: its seal is another", PACK_ANEW)
    return manifest


def _said(message: str) -> str:
    return message.partition(f"; {PACK_ANEW}")[0]


KNOWN_FAILURES = "known-failures.yaml"
FOLDERS = ("onnx", "unanswered", "torchscript", "data")
"""Where packed files stand, and no others."""
REPORTS = "reports"
"""Where a run that is started in the bundle writes what it finds, unless it is told otherwise."""
OF_A_REPORT = ("report.json", "journal.jsonl")
EXPORTING = ("torch", "onnx", "onnxscript", "onnx-ir")
"""The packages that a bundle's files were made with: what is known to fail with them fails wherever the files go."""

Wrong = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds, once it is known to be whole; ``versions`` are those that it was packed with."""

    cases: tuple[Case, ...]
    targets: BundleTargets
    known_failures: Path
    seal: str
    versions: Mapping[str, str]

    def judged_by(self, here: Mapping[str, str]) -> dict[str, str]:
        """The versions that decide which known failures apply: the exporting packages' as packed, the others' here."""
        made_with = {name: version for name, version in self.versions.items() if name in EXPORTING}
        return {**{name: version for name, version in here.items() if name not in EXPORTING}, **made_with}

    @property
    def told(self) -> dict[str, Any]:
        """What a report says of it."""
        return {"seal": self.seal, "packed_with": dict(self.versions)}


def is_bundle(path: Path) -> bool:
    """Whether ``path`` is the folder of a bundle, or claims to be."""
    return os.path.lexists(path / MANIFEST) and path.is_dir()


def load_bundle(folder: Path) -> Bundle:
    """The bundle in ``folder``.

    Raises :class:`SpecError` of one line for one that is of a newer format, was tampered with, is not whole, or leads
    out of its folder.
    """
    manifest = read_manifest(folder / MANIFEST)
    if wrongs := [*_inconsistent(manifest), *_damage(folder, manifest)]:
        file, wrong, right = wrongs[0]
        more = f" (and {len(wrongs) - 1} more of the kind)" if len(wrongs) > 1 else ""
        raise refused(folder / file, wrong + more, right)
    return Bundle(
        cases=tuple(packed_case(str(folder.resolve()), manifest.seal, entry) for entry in manifest.cases),
        targets=BundleTargets.of(manifest.targets, Location(str(folder / MANIFEST))),
        known_failures=folder / KNOWN_FAILURES,
        seal=manifest.seal,
        versions=manifest.versions,
    )


def _damage(folder: Path, manifest: Manifest) -> Iterator[Wrong]:
    """Files that are not there, are not what was packed, are links, or were put there later."""
    root = folder.resolve()
    for name, digest in manifest.files.items():
        # Not Path.resolve, which raises where a link leads to itself.
        if os.path.realpath(folder / name) != str(root / name):
            yield name, "a link, which may lead out of the bundle", "put the file itself there"
        elif not (folder / name).is_file():
            yield name, "is in the manifest, but is not there", "copy the bundle again, or " + PACK_ANEW
        elif sha256_of(folder / name) != digest:
            yield name, "is not what was packed: its SHA-256 is another", "copy the bundle again, or " + PACK_ANEW
    for name in _names(folder):
        if name not in manifest.files:
            yield name, "is in the bundle, but not in its manifest", f"remove it, or {PACK_ANEW}"


def _names(folder: Path) -> Iterator[str]:
    """What stands in the bundle and may not unless it was packed, links to folders as well."""
    for entry in sorted(folder.iterdir()):
        if entry.name in FOLDERS and not entry.is_symlink():
            yield from _below(entry, folder)
        elif entry.name != MANIFEST and not entry.name.startswith(".") and not _is_for_reports(entry):
            yield entry.name


def _below(room: Path, folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(room):
        links = [each for each in folders if Path(parent, each).is_symlink()]
        yield from (Path(parent, each).relative_to(folder).as_posix() for each in sorted((*files, *links)))


def _is_for_reports(entry: Path) -> bool:
    """True for the folder that runs write into by default, and for one that a run was told to write into."""
    if entry.is_symlink() or not entry.is_dir():
        return False
    return entry.name == REPORTS or any((entry / name).is_file() for name in OF_A_REPORT)


def _inconsistent(manifest: Manifest) -> Iterator[Wrong]:
    """What the manifest says twice, or says of files that it does not list."""
    for case_id, times in Counter(entry.id for entry in manifest.entries).items():
        if times > 1:
            yield MANIFEST, f"{case_id} is there twice", PACK_ANEW
    for case in manifest.entries:
        for export in sorted({*manifest.exports} - case.exports.keys() - case.not_packed.keys()):
            yield MANIFEST, f"{case.id}: nothing is said of its export {export}", PACK_ANEW
        if case.exports and not case.rounds:
            yield MANIFEST, f"{case.id} has exports and nothing to hold them against", PACK_ANEW
        labels = {each.label for each in case.inputs}
        if any(part.sample is None and labels - part.inputs.keys() for part in case.rounds):
            yield MANIFEST, f"{case.id}: not each of its inputs is recorded", PACK_ANEW
        if any(part.sample for part in case.rounds) and any(each.fill is None for each in case.inputs):
            yield MANIFEST, f"{case.id}: it is not said how its inputs are drawn", PACK_ANEW
        for name in sorted({*case.files()} - manifest.files.keys()):
            yield MANIFEST, f"{name} has no checksum", PACK_ANEW
    if KNOWN_FAILURES not in manifest.files:
        yield MANIFEST, f"{KNOWN_FAILURES} has no checksum", PACK_ANEW


def packed_case(folder: str, seal: str, entry: CaseEntry) -> Case:
    """The case that ``entry`` tells of, in the bundle at ``folder``."""
    return Case(
        id=entry.id,
        about=entry.about,
        model=WeightedModel(PackedModel(folder, seal, entry)),
        inputs=tuple(each.spec() for each in entry.inputs),
        where=Location(entry.where.file, entry.where.line, entry.where.column),
        expect=Expectation(raises=entry.raises),
    )


def sha256_of(file: Path) -> str:
    """The SHA-256 of the file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()
