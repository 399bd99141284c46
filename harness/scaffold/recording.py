"""Record a model: its file, inputs, and the reference's outputs, in the layout of ONNX's backend tests.

:func:`record_model` is called in a separate process, since it builds or loads the model and runs it. What it writes is
read by :mod:`harness.spec.recorded`: anywhere, without torch and without what the model was made from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.check.files.matching import InputsDoNotFit
from harness.errors import HarnessError, SpecError, UsageError
from harness.result import Stage
from harness.scaffold.comparison import SUBJECT, NoComparison, Question, cases_of, comparison_spec
from harness.spec.language.case import Case
from harness.spec.model_files import MODULE_FORMATS, is_model_file, stored_model
from harness.spec.targets import TESTED_FILE, Target, parse_target

DEFAULT_EXPORTER, SCRIPT_EXPORTER = "onnx-dynamo", "onnx-torchscript"
"""The exporters by default. The dynamo exporter takes no TorchScript."""
RUNTIME = "ort-cpu"
"""Completes the words of ``--targets``, which name no runtime, to targets."""
STOCHASTIC = "draws random numbers at each call, so no outputs can be recorded; put it in evaluation mode"
KEEPS_STATE = "the model keeps state between calls: the answers of a first call are recorded"


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """Record the ``subject`` of ``question``, which is its reference too, into the empty folder ``out``.

    ``exports`` are targets that make an ONNX file of it: the first one makes the model unless the subject is an ONNX
    file, the others are variants, and so are the model files ``variants``. ``draws`` counts the sets of drawn inputs.
    """

    question: Question
    out: Path
    exports: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    draws: int = 2


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded: the ``inputs`` in words, the number of data sets, and the ``variants`` by name."""

    inputs: tuple[str, ...]
    data_sets: int
    variants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def export_target(word: str, subject: str) -> Target:
    """The target that ``word`` of ``--targets`` stands for: an exporter, or transforms of the file ``subject``.

    Raises :class:`UsageError` if it makes no ONNX file.
    """
    if _is_exported(subject):
        name = word.partition("/")[0]
        try:
            return parse_target(f"{name}/{RUNTIME}")
        except UsageError as error:
            raise UsageError(f"--targets {word}: {str(error).partition(': ')[2]}") from None
    if not re.fullmatch(r"\+[^/]+", word):
        raise UsageError(f"--targets {word}: {subject} is a file and is not exported; name transforms, such as +fp16")
    if stored_model(Path(subject)).format != "onnx":
        raise UsageError(f"--targets {word}: transforms change ONNX files, and {subject} is none")
    return parse_target(f"{TESTED_FILE}{SUBJECT}{word}/{RUNTIME}")


def record_model(
    scratch: Path, request: RecordingRequest, *, announce: Callable[[Stage], None]
) -> Recorded | NoComparison:
    """Write the recording, or say why it cannot be made."""
    from harness.check.recorded.writing import ExportedModel, ModelFile, RecordingWriter, read_back, variant_files
    from harness.check.stages import message_of

    asked = comparison_spec(scratch, request.question, announce=announce)
    if isinstance(asked, NoComparison):
        return asked
    subject = request.question.subject
    is_exported = _is_exported(subject)
    words = request.exports or ((_default_exporter(subject),) if is_exported else ())
    try:
        case = _case(request, asked.spec)
        targets = {word: export_target(word, subject) for word in words}
        announce("export" if is_exported else "run")
        model = (ExportedModel if is_exported else ModelFile)(case, targets, scratch)
        references = model.references
        if any(reference.stochastic for reference in references):
            return NoComparison((f"{subject}: {STOCHASTIC}",))
        writer = RecordingWriter(request.out, request.question.tolerance)
        writer.write_model(model.file, references, named_after=subject)
        for name, file in {**model.variants, **variant_files(request.variants, references[0])}.items():
            writer.write_variant(name, file)
        writer.write_manifest(subject)
        read_back(request.out)
    except InputsDoNotFit as error:
        return NoComparison(error.problems)
    except SpecError as error:
        return NoComparison(tuple(str(error).splitlines()))
    except HarnessError as error:
        return NoComparison((str(error),))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code, or a library that does not take the model
        return NoComparison((f"{subject}: cannot be recorded: {message_of(error)}",))
    notes = [*asked.notes, *(KEEPS_STATE for each in references[:1] if each.second_call is not None)]
    return Recorded(asked.inputs, len(references), tuple(writer.variants), tuple(dict.fromkeys(notes)))


def _is_exported(subject: str) -> bool:
    """True for what becomes an ONNX file: a callable, TorchScript, or a program of torch.export."""
    return not is_model_file(subject) or stored_model(Path(subject)).format in MODULE_FORMATS


def _default_exporter(subject: str) -> str:
    is_script = is_model_file(subject) and stored_model(Path(subject)).format == "torchscript"
    return SCRIPT_EXPORTER if is_script else DEFAULT_EXPORTER


def _case(request: RecordingRequest, spec: Mapping[str, Any]) -> Case:
    """The case of the spec. Files under test are exported by themselves; what torch loads has none."""
    (entry,) = spec["cases"]
    entry = {**entry, "draws": request.draws}
    entry.pop("tolerance", None)
    if _is_exported(request.question.subject):
        del entry["files"]
    (case,) = cases_of({**spec, "cases": [entry]}, "record", request.question.home)
    return case
