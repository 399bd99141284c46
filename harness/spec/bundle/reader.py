"""Reads a bundle: a folder that ``harness pack`` wrote, for machines without the specs and without torch.

    manifest.json              the content of the bundle, the references, and the SHA-256 of every file
    known-failures.yaml        the entries of the specs' list that match a check of the bundle
    onnx/test_.../             one export of a case, in the layout of ONNX's backend tests
    unanswered/test_.../       an export without a complete reference: a stochastic layer, a case that must be refused,
                               a large size
    torchscript/test_.../      one export of a case, as model.pt
    ort/test_.../              one export of a case in ONNX Runtime's format, as model.ort
    data/                      every recorded array once, and the layers of whole models as JSON, named by the SHA-256

The keys of ``manifest.json`` are as follows; :mod:`harness.spec.bundle.entries` describes the entry of one case.

    format        the version of this layout; a new optional key does not need a new version
    seal          the SHA-256 of everything else in the manifest
    versions      of the packages that the bundle was made with
    targets       the targets that it was packed for
    files         SHA-256 by path, for every file of the bundle except the manifest
    cases         the cases with their exports, references, and the failed exports with the reason

Every file is compared with its checksum before anything runs. Nothing outside the folder is read. The folder may hold
nothing else, except hidden files and the reports of runs that were started in it. The checksums detect corruption and
careless changes, not tampering: they do not tell who wrote the bundle.
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
from harness.spec import KNOWN_FAILURES_FILE
from harness.spec.bundle.entries import PACK_AGAIN, CaseEntry, Digest, PackedModel, RelativePath
from harness.spec.language.case import Case, Expectation, WeightedModel
from harness.spec.quoting import join_names, suggestion
from harness.spec.targets import Target, parse_target, runs_format, split_target
from harness.spec.targets.sets import DEFAULT_SET, TargetSets
from harness.spec.yaml.strict import StrictModel, file_error, key_path, read_json

MANIFEST_FILE = "manifest.json"
FORMAT = 1
FOLDERS = ("onnx", "unanswered", "torchscript", "ort", "data")
"""The folders that hold packed files."""
REPORTS_FOLDER = "reports"
"""The folder that a run started in the bundle writes its reports to by default."""
REPORT_FILES = ("report.json", "journal.jsonl")
EXPORT_PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir")
"""The packages that made the files of a bundle: failures that are known with them occur wherever the files run."""
ALL_SET = "all"

Defect = tuple[str, str, str]
"""A file, what is wrong with it, and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of a bundle whose files all match the manifest; ``versions`` are those that it was packed with."""

    cases: tuple[Case, ...]
    targets: BundleTargets
    known_failures: Path
    seal: str
    versions: Mapping[str, str]

    def versions_for_known_failures(self, installed: Mapping[str, str]) -> dict[str, str]:
        """The versions that decide which known failures apply: the exporting packages' as packed, the others' here."""
        packed = {name: version for name, version in self.versions.items() if name in EXPORT_PACKAGES}
        return {**{name: version for name, version in installed.items() if name not in EXPORT_PACKAGES}, **packed}

    @property
    def report_entry(self) -> dict[str, Any]:
        """The description of the bundle in a report."""
        return {"seal": self.seal, "packed_with": dict(self.versions)}


def is_bundle(path: Path) -> bool:
    """True if ``path`` is a folder with a manifest."""
    return os.path.lexists(path / MANIFEST_FILE) and path.is_dir()


def load_bundle(folder: Path) -> Bundle:
    """The bundle in ``folder``.

    Raises :class:`SpecError` of one line if its format is newer, if it was changed or is incomplete, or if a file of it
    is a link that points outside.
    """
    manifest = read_manifest(folder / MANIFEST_FILE)
    if defects := [*_inconsistencies(manifest), *_damaged_files(folder, manifest)]:
        file, message, remedy = defects[0]
        more = f" (and {len(defects) - 1} more)" if len(defects) > 1 else ""
        raise file_error(folder / file, message + more, remedy)
    return Bundle(
        cases=tuple(packed_case(str(folder.resolve()), manifest.seal, entry) for entry in manifest.cases),
        targets=BundleTargets.of(manifest.targets, Location(str(folder / MANIFEST_FILE))),
        known_failures=folder / KNOWN_FAILURES_FILE,
        seal=manifest.seal,
        versions=manifest.versions,
    )


def packed_case(folder: str, seal: str, entry: CaseEntry) -> Case:
    """The case that ``entry`` describes, in the bundle at ``folder``."""
    return Case(
        id=entry.id,
        about=entry.about,
        draws=entry.draws,
        count=entry.count,
        model=WeightedModel(PackedModel(folder, seal, entry)),
        inputs=tuple(each.spec() for each in entry.inputs),
        where=Location(entry.where.file, entry.where.line, entry.where.column),
        expect=Expectation(raises=entry.raises),
    )


@dataclass(frozen=True)
class BundleTargets(TargetSets):
    """The targets of a bundle: the set ``default`` is what it was packed for, ``all`` is everything it can run on.

    As for recorded models, a word may be a runtime, and of several targets that a glob matches only those with a
    runtime on this machine are used: ``ort-*`` stands for whichever of them is installed. Raises
    :class:`RuntimeMissing` if none is.
    """

    exports: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, packed_for: Sequence[str], where: Location) -> BundleTargets:
        """The targets of a bundle that was packed for ``packed_for``. Raises :class:`SpecError` for an invalid one."""
        targets = tuple(parse_target(text, where) for text in packed_for)
        formats = {target.export: target.makes for target in targets}
        return cls({DEFAULT_SET: targets, ALL_SET: all_targets(formats, where)}, exports=tuple(formats))

    def _exported_targets(self, word: str) -> Iterator[Target]:
        is_runtime = not ("*" in word or "/" in word or word in self.sets or word not in plugins("runtimes"))
        # An export holds no star, so a runtime's name can be matched as a glob.
        targets = tuple(super()._exported_targets(f"*/{word}" if is_runtime else word))
        for target in targets:
            if target.export not in self.exports:
                remedy = suggestion(target.export, self.exports, f"it holds {join_names(self.exports)}")
                raise UsageError(f"{word}: the bundle has no export {target.export}; {remedy}")
        if "*" not in word:
            yield from targets
            return
        availability = {target.runtime: plugins("runtimes")[target.runtime].availability() for target in targets}
        available = tuple(target for target in targets if availability[target.runtime].present)
        if targets and not available:
            # The reason of a CPU runtime comes first: it can be installed anywhere, the others need a device.
            first = min(availability, key=lambda runtime: (not runtime.endswith("-cpu"), runtime))
            reason = availability[first].unavailable_message(first)
            raise RuntimeMissing(f"{word}: none of these runtimes is available; {reason}")
        yield from available


def all_targets(formats: Mapping[str, str], where: Location | None = None) -> tuple[Target, ...]:
    """Each export on every runtime that runs its format, available on this machine or not."""
    return tuple(
        parse_target(f"{export}/{name}", where)
        for export, format_ in formats.items()
        for name, runtime in plugins("runtimes").items()
        if runs_format(runtime, format_)
    )


class Manifest(StrictModel):
    """The content of ``manifest.json``."""

    format: Literal[1]
    seal: Digest
    versions: dict[str, str]
    targets: Annotated[list[str], Field(min_length=1)]
    files: dict[RelativePath, Digest]
    cases: Annotated[list[CaseEntry], Field(min_length=1)]

    @property
    def entries(self) -> Iterator[CaseEntry]:
        """Every case at every shape."""
        return (entry for case in self.cases for entry in case.at_every_shape())

    @property
    def exports(self) -> tuple[str, ...]:
        """The part before the slash of each target that the bundle was packed for."""
        return tuple(dict.fromkeys(split_target(target)[0] for target in self.targets))


def manifest_seal(content: dict[str, Any]) -> str:
    """The SHA-256 of a manifest without its seal, in canonical JSON."""
    sealed = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of(file: Path) -> str:
    """The SHA-256 of the file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``.

    Raises :class:`SpecError`, one line per problem, if it is cut short, has a newer format, is not the manifest of a
    bundle, or was changed after it was written.
    """
    if not path.is_file():
        raise file_error(path, "this is not a file", PACK_AGAIN)
    if path.is_symlink():
        raise file_error(path, "a link, which may point outside the bundle", "put the file itself there")
    raw = read_json(path, "the manifest", PACK_AGAIN)
    version = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or type(version) is not int or version < 1:
        raise file_error(path, "this is not the manifest of a bundle: it has no `format` number", PACK_AGAIN)
    if version > FORMAT:
        raise file_error(path, f"this bundle is of format {version}", f"this harness reads format {FORMAT}; update it")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False)
        more = f" (and {len(others)} more)" if others else ""
        message = first["msg"].partition(f"; {PACK_AGAIN}")[0]
        raise file_error(path, f"{key_path(first['loc'])}: {message}{more}", PACK_AGAIN) from error
    if manifest.seal != manifest_seal(raw):
        raise file_error(path, "it was changed after it was packed: its seal does not match", PACK_AGAIN)
    return manifest


def _inconsistencies(manifest: Manifest) -> Iterator[Defect]:
    """Contradictions within the manifest, and files that it uses but does not list."""
    for case_id, count in Counter(entry.id for entry in manifest.entries).items():
        if count > 1:
            yield MANIFEST_FILE, f"{case_id} appears twice", PACK_AGAIN
    for case in manifest.entries:
        for export in sorted({*manifest.exports} - case.exports.keys() - case.not_packed.keys()):
            yield MANIFEST_FILE, f"{case.id}: its export {export} is missing", PACK_AGAIN
        if case.exports and not case.rounds:
            yield MANIFEST_FILE, f"{case.id} has exports but no reference to compare them with", PACK_AGAIN
        labels = {each.label for each in case.inputs}
        if any(each.sample is None and labels - each.inputs.keys() for each in case.rounds):
            yield MANIFEST_FILE, f"{case.id}: not all of its inputs are recorded", PACK_AGAIN
        if any(each.sample for each in case.rounds) and any(each.fill is None for each in case.inputs):
            yield MANIFEST_FILE, f"{case.id}: the fill of its inputs is missing", PACK_AGAIN
        for name in sorted({*case.files()} - manifest.files.keys()):
            yield MANIFEST_FILE, f"{name} has no checksum", PACK_AGAIN
    if KNOWN_FAILURES_FILE not in manifest.files:
        yield MANIFEST_FILE, f"{KNOWN_FAILURES_FILE} has no checksum", PACK_AGAIN


def _damaged_files(folder: Path, manifest: Manifest) -> Iterator[Defect]:
    """Files that are missing, differ from what was packed, are links, or were added later."""
    root = folder.resolve()
    for name, digest in manifest.files.items():
        # Not Path.resolve, which raises where a link leads to itself.
        if os.path.realpath(folder / name) != str(root / name):
            yield name, "a link, which may point outside the bundle", "put the file itself there"
        elif not (folder / name).is_file():
            yield name, "is in the manifest, but missing", "copy the bundle again, or " + PACK_AGAIN
        elif sha256_of(folder / name) != digest:
            message = "is not the file that was packed: its SHA-256 differs"
            yield name, message, "copy the bundle again, or " + PACK_AGAIN
    for name in _file_names(folder):
        if name not in manifest.files:
            yield name, "is in the bundle, but not in its manifest", f"remove it, or {PACK_AGAIN}"


def _file_names(folder: Path) -> Iterator[str]:
    """The names in the bundle that must be in its manifest, links to folders included."""
    for entry in sorted(folder.iterdir()):
        if entry.name in FOLDERS and not entry.is_symlink():
            yield from _names_below(entry, folder)
        elif entry.name != MANIFEST_FILE and not entry.name.startswith(".") and not _is_report_folder(entry):
            yield entry.name


def _names_below(subfolder: Path, folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(subfolder):
        links = [each for each in folders if Path(parent, each).is_symlink()]
        yield from (Path(parent, each).relative_to(folder).as_posix() for each in sorted((*files, *links)))


def _is_report_folder(entry: Path) -> bool:
    """True for the folder that runs write to by default, and for a folder that holds a report."""
    if entry.is_symlink() or not entry.is_dir():
        return False
    return entry.name == REPORTS_FOLDER or any((entry / name).is_file() for name in REPORT_FILES)
