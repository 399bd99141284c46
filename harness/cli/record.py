"""``harness record``: a model with inputs and the reference's outputs, in the layout of ONNX's backend tests."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.option_values import NEITHER, is_callable_name, read_arguments, read_shapes, read_tolerance
from harness.cli.options import AT_LEAST_ONE, FOLDER, SECONDS, WordList, flat
from harness.cli.process import echo
from harness.errors import Mistakes, RuntimeMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.scaffold.recording import Recorded, RecordingRequest

EXAMPLES = """
\b
Examples:
  harness record model.onnx -o recorded                          inputs are drawn as the file declares them
  harness record model.onnx model_fp16.onnx -o recorded          one more file, held to the same data
  harness record net.py:Net --weights net.pt --shape x=1,3,64,64 -o recorded
  harness record net.jit --inputs samples/ --targets onnx-torchscript@17 -o recorded
"""


@click.command(epilog=EXAMPLES, short_help="Record a model's outputs, for a board or for CI.")
@click.argument("model", metavar="MODEL")
@click.argument("variants", nargs=-1, metavar="[VARIANT]...")
@click.option("-o", "--out", required=True, type=FOLDER, metavar="DIR", help="Folder to write; new or empty.")
@click.option("--replace", is_flag=True, help="Replace a recording that is in DIR.")
@click.option("--inputs", multiple=True, metavar="FILE|DIR", help="Data file, or folder with one for each sample.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of a drawn input.")
@click.option("--draws", type=AT_LEAST_ONE, default=2, show_default=True, metavar="N", help="Sets of drawn inputs.")
@click.option("--args", "arguments", metavar="YAML", help="Arguments of a callable, such as '{classes: 10}'.")
@click.option(
    "--weights", metavar="FILE", help="All weights of a callable's module: .pt, a checkpoint, or .safetensors."
)
@click.option(
    "--targets",
    multiple=True,
    type=WordList(),
    metavar="LIST",
    help="Exporters for a module, such as onnx-dynamo@23; transforms of an ONNX file, such as +fp16. "
    "[default: onnx-dynamo; onnx-torchscript for TorchScript]",
)
@click.option("--tolerance", metavar="RULE", help="In YAML: {rtol: 1e-3, atol: 1e-5}. [default: the file's rounding]")
@click.option("--timeout", type=SECONDS, default=600.0, show_default=True, metavar="S", help="Seconds for all of it.")
def record(model: str, variants: tuple[str, ...], out: Path, **options: Any) -> int:
    """Write MODEL, inputs, and the outputs that are to be expected to DIR, which `harness run DIR` verifies.

    MODEL is a model file or a callable that returns an nn.Module, as for `harness compare`. An ONNX file is recorded as
    it is, with its own outputs without graph optimization. A module is exported, and the outputs are those of PyTorch.
    VARIANT is a further .onnx or .ort file that is held to the same data. Naming a callable or TorchScript runs its
    code.
    """
    from harness.engine.processes.temporary import folder_becoming

    request = _request(model, variants, options)

    def is_replaced(folder: Path) -> bool:
        if options["replace"] and _is_recording(folder):
            return True
        if options["replace"]:
            raise UsageError(f"-o {folder}: holds something else than a recording; name a new folder or an empty one")
        advice = "pass --replace to replace it, or name a new folder"
        raise UsageError(f"-o {folder}: already exists; {advice}" if _is_recording(folder) else _occupied(folder))

    with folder_becoming(out, is_replaced) as folder:
        recorded = _record(request, folder, options["timeout"])
    for line in _summary(model, out, recorded):
        echo(line)
    return 0


def _occupied(folder: Path) -> str:
    return f"-o {folder}: already exists; name a new folder or an empty one"


def _is_recording(folder: Path) -> bool:
    from harness.errors import RequestError
    from harness.spec.recorded import is_recorded_model

    if not folder.is_dir():
        return False
    entries = list(folder.iterdir())
    try:
        return is_recorded_model(folder, [e.name for e in entries if e.is_dir()], [e.name for e in entries])
    except RequestError:
        return False


def _request(model: str, variants: Sequence[str], options: dict[str, Any]) -> RecordingRequest:
    """The request of the command line. Raises :class:`Mistakes` with every word that is wrong."""
    from importlib.util import find_spec

    from harness.spec.model_files import absent_files

    problems: list[str] = []
    shapes, arguments = read_shapes(options["shapes"], problems), read_arguments(options["arguments"], problems)
    tolerance = _tolerance(options["tolerance"], problems)
    needs_torch = _needs_torch(model, variants, problems)
    problems += absent_files([model], options["inputs"], options["weights"])
    if problems:
        raise Mistakes(problems)
    if needs_torch and find_spec("torch") is None:
        from harness.environment import install_command

        raise RuntimeMissing(
            f"recording {model} needs torch, which is not installed; install with: {install_command('torch')}"
        )
    from harness.scaffold.recording import RecordingRequest, export_target

    exports = flat(options["targets"])
    for word in exports:
        try:
            export_target(word, model)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise Mistakes(problems)
    from harness.scaffold.comparison import Question

    question = Question(
        subject=model,
        reference=model,
        home=Path.cwd(),
        inputs=options["inputs"],
        shapes=shapes,
        arguments=arguments,
        weights=options["weights"],
        tolerance=tolerance,
    )
    return RecordingRequest(question, Path(), exports, tuple(variants), options["draws"])


def _needs_torch(model: str, variants: Sequence[str], problems: list[str]) -> bool:
    """True if torch has to load the model. What is no model is added to ``problems``."""
    from harness.spec.model_files import FORMAT_NAMES, is_model_file, stored_model

    needs_torch = not is_model_file(model)
    if needs_torch and not is_callable_name(model):
        problems.append(f"{model}: {NEITHER}")
    for name in (*((model,) if is_model_file(model) else ()), *variants):
        try:
            file = stored_model(Path(name))
        except UsageError as error:
            problems.append(str(error))
            continue
        if name == model:
            needs_torch = file.needs_torch
            if file.format == "aoti":
                problems.append(f"{name}: {FORMAT_NAMES[file.format]} holds no graph; record what it was compiled from")
        elif file.needs_torch:
            problems.append(f"{name}: a variant is .onnx or .ort; export it first, or record it by itself")
    return needs_torch


def _tolerance(text: str | None, problems: list[str]) -> Any:
    """The rule of ``--tolerance`` as data. One that needs more than recorded outputs is added to ``problems``."""
    from harness.spec.recorded import without_unrecorded

    return read_tolerance(text, problems, without_unrecorded)


def _record(request: RecordingRequest, folder: Path, seconds: float) -> Recorded:
    """Record in a separate process, which loads the model."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import ProcessEnd, SeparateProcess
    from harness.scaffold.comparison import NoComparison
    from harness.scaffold.recording import record_model

    model = request.question.subject
    torch = _needs_torch(model, (), [])
    request = replace(request, out=folder.absolute())
    with temporary_folder() as scratch, closing(SeparateProcess(scratch, torch=torch)) as process:
        recorded = process.call(record_model, request, seconds=seconds)
    if isinstance(recorded, ProcessEnd):
        raise UsageError(
            f"{model}: {recorded.description} while it was recorded ({recorded.stage}); "
            "make sure that it loads and runs in Python, or give it more time with --timeout"
        )
    if isinstance(recorded, NoComparison):
        raise Mistakes(recorded.problems)
    return recorded


def _summary(model: str, out: Path, recorded: Recorded) -> list[str]:
    from harness.report.shell import as_argument, command_line

    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 2**10
    sets = "1 data set" if recorded.data_sets == 1 else f"{recorded.data_sets} data sets"
    return [
        f"Recorded: {model}, {sets}, {size:,.0f} KiB in {out}",
        *(f"  input      {each}" for each in recorded.inputs),
        *(f"  variant    {each}" for each in recorded.variants),
        *(f"  note       {each}" for each in recorded.notes),
        f"Verify it anywhere, without torch: {command_line(['harness', 'run', as_argument(str(out))])}",
    ]


COMMANDS = (record,)
