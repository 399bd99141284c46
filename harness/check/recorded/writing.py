"""Write a recorded model: its file, its data sets and its variants, as :mod:`harness.spec.recorded` reads them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.cache.artifacts import ArtifactCache
from harness.check.files.context import TestedFile
from harness.check.files.contexts import CaseContexts
from harness.check.files.matching import InputsDoNotFit, NamedInput, match_inputs
from harness.check.files.signatures import read_file_signature
from harness.check.recorded.protobufs import external_data_files, open_recorded
from harness.check.recorded.recording import RecordedCase
from harness.check.stages import message_of
from harness.data_files.onnx_files import from_array
from harness.errors import StageError, UsageError
from harness.model.answer import Reference
from harness.spec.language.case import Case, FileModel
from harness.spec.model_files import stored_model
from harness.spec.recorded import MANIFEST_FILE, recorded_cases
from harness.spec.targets import Target

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class FileToRecord:
    """A model file to be recorded, with the folder that holds its external data."""

    path: Path
    format: str

    def copy_to(self, folder: Path) -> Path:
        """Copy the file as ``model.onnx`` or ``model.ort``, and its external data beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        for data in external_data_files(self.path) if self.format == "onnx" else ():
            place = folder / data.relative_to(self.path.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data, place)
        return Path(shutil.copyfile(self.path, folder / f"model.{self.format}"))


class ExportedModel:
    """A module of torch: eager torch answers, and exporters make the files. ``targets`` are those of each word."""

    def __init__(self, case: Case, targets: Mapping[str, Target], scratch: Path) -> None:
        self._prepared = CaseContexts(case, ArtifactCache(None, scratch)).prepared
        self.references: Sequence[Reference] = self._prepared.references
        first, *others = targets
        self.file = self._export(first, targets[first])
        self.variants = {word: self._export(word, targets[word]) for word in others}

    def _export(self, word: str, target: Target) -> FileToRecord:
        try:
            return FileToRecord(self._prepared.artifact(target).path, "onnx")
        except Exception as error:
            raise UsageError(f"{word}: no file is made: {message_of(error)}; name another exporter") from error


class ModelFile:
    """A file that ONNX Runtime loads: it answers itself, without graph optimization, and is copied as it is."""

    def __init__(self, case: Case, targets: Mapping[str, Target], scratch: Path) -> None:
        artifacts = ArtifactCache(None, scratch)
        (name,) = case.files
        tested = TestedFile(case, name, CaseContexts(case, artifacts).reference, artifacts)
        self.references: Sequence[Reference] = tested.references
        artifact = tested.plain_artifact
        self.file = FileToRecord(artifact.path, artifact.format)
        self.variants = {
            word: FileToRecord(tested.plain_artifact_for(target).path, "onnx") for word, target in targets.items()
        }


def variant_files(names: Sequence[str], reference: Reference) -> dict[str, FileToRecord]:
    """The model files ``names`` by stem. Raises :class:`InputsDoNotFit` for those that do not take the inputs."""
    problems: list[str] = []
    files: dict[str, FileToRecord] = {}
    given = [NamedInput(name, each.dtype, each.shape) for name, each in reference.inputs.items()]
    for path in map(Path, names):
        stored = stored_model(path)
        try:
            match_inputs(given, read_file_signature(stored), path.name)
        except InputsDoNotFit as error:
            problems += error.problems
        files[path.stem if path.stem not in files else path.name] = FileToRecord(path, stored.format)
    if problems:
        raise InputsDoNotFit(problems)
    return files


@dataclass
class RecordingWriter:
    """Writes a recording into ``folder``, which is empty. ``tolerance`` is that of all outputs, as data."""

    folder: Path
    tolerance: Any
    variants: dict[str, str] = field(default_factory=dict)

    def write_model(self, file: FileToRecord, references: Sequence[Reference], named_after: str) -> None:
        """Write the model, and a data set for each of the references. ``named_after`` is for messages.

        Raises :class:`UsageError` if the file takes other inputs than the references have.
        """
        path = file.copy_to(self.folder)
        model = open_recorded(FileModel(str(path), ()))
        names = [value.name for value in model.inputs]
        for number, reference in enumerate(references):
            data_set = self.folder / f"test_data_set_{number}"
            data_set.mkdir()
            inputs = _in_order(reference.inputs, names, named_after)
            for kind, arrays in (("input", inputs), ("output", list(reference.eager.items()))):
                for index, (name, values) in enumerate(arrays):
                    tensor = from_array(np.ascontiguousarray(values).reshape(values.shape), name)
                    (data_set / f"{kind}_{index}.pb").write_bytes(tensor.SerializeToString())

    def write_variant(self, name: str, file: FileToRecord) -> None:
        """Write a variant under a label that is made of ``name``."""
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "variant"
        while label in self.variants:
            label += "-again"
        path = file.copy_to(self.folder / "variants" / label)
        self.variants[label] = path.relative_to(self.folder).as_posix()

    def write_manifest(self, subject: str) -> None:
        """Write the manifest, at the end: it names the variants."""
        manifest: dict[str, Any] = {"model_name": Path(subject).name, "about": f"Recorded from {Path(subject).name}."}
        if self.tolerance is not None:
            manifest["tolerance"] = self.tolerance
        if self.variants:
            manifest["variants"] = self.variants
        (self.folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _in_order(inputs: Mapping[str, Array], names: Sequence[str], subject: str) -> list[tuple[str, Array]]:
    """The inputs in the order of the graph, which an exporter may have left one out of that the module does not use."""
    if set(names) <= inputs.keys():
        return [(name, inputs[name]) for name in names]
    if len(names) != len(inputs):
        raise UsageError(
            f"{subject}: the exported file takes {', '.join(names) or 'nothing'}, and the inputs are "
            f"{', '.join(inputs)}; name another exporter with --targets"
        )
    return list(zip(names, inputs.values(), strict=True))


def read_back(folder: Path) -> None:
    """Read the recording as a check does. Raises :class:`SpecError` or :class:`StageError` if that is not possible."""
    for case in recorded_cases(folder, "recorded"):
        if not RecordedCase(case).data_sets:
            raise StageError(f"{folder}: no data set was written")
