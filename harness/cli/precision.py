"""``harness sensitivity`` and ``harness ladder``: what a lower precision costs, by layer and by precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.option_values import is_callable_name, read_arguments, read_shapes
from harness.cli.options import AT_LEAST_ONE, FC, FOLDER, Number, WordList, flat
from harness.cli.process import echo
from harness.errors import Mistakes, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.precision.model import ModelQuestion
    from harness.report.terminal import Progress

EXPORTER = "onnx-dynamo"


def _model_options(folder: str) -> Callable[[FC], FC]:
    """The model and its inputs, as both commands take them."""
    options = (
        click.argument("model", metavar="MODEL"),
        click.option(
            "--inputs", multiple=True, metavar="FILE|DIR", help="Data file, or folder with one for each sample."
        ),
        click.option("--samples", type=AT_LEAST_ONE, metavar="N", help="Use the first N samples. [default: all]"),
        click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of a drawn input."),
        click.option("--args", "arguments", metavar="YAML", help="Arguments of a callable, such as '{classes: 10}'."),
        click.option(
            "--weights", metavar="FILE", help="All weights of a callable's module: .pt, a checkpoint, or .safetensors."
        ),
        click.option(
            "--exporter", default=EXPORTER, show_default=True, metavar="NAME[@OPSET]", help="Exporter of a callable."
        ),
        click.option(
            "--axis", type=int, metavar="N", help="Axis of the candidates. [default: -1, or 1 of four axes or more]"
        ),
        click.option(
            "-o",
            "--output",
            type=FOLDER,
            default=folder,
            show_default=True,
            metavar="DIR",
            help="Folder for the results.",
        ),
    )

    def add(command: FC) -> FC:
        for option in reversed(options):
            command = option(command)
        return command

    return add


SENSITIVITY_EXAMPLES = """
\b
Examples:
  harness sensitivity model.onnx --to int8 --inputs samples/      which layers cost the accuracy
  harness sensitivity net.py:Net --weights net.pt --to fp16 --shape x=1,3,224,224
  harness sensitivity model.onnx --to 'int8-static?per_channel=on' --inputs samples/ --decisions 0.999
"""


@click.command(epilog=SENSITIVITY_EXAMPLES, short_help="Which layers to keep in float32.")
@_model_options("reports/sensitivity")
@click.option("--to", required=True, metavar="TRANSFORM", help="Such as fp16, int8, int8-static or int4?block_size=64.")
@click.option(
    "--sqnr",
    type=Number(-1000, 1000),
    metavar="DB",
    help="Least SQNR of every sample. [default: 35, without --decisions]",
)
@click.option("--decisions", type=Number(0, 1), metavar="SHARE", help="Least share of equal decisions.")
def sensitivity(model: str, to: str, sqnr: float | None, decisions: float | None, **options: Any) -> int:
    """Find the layers of MODEL that lose accuracy in a lower precision, and a short list to keep in float32.

    MODEL is an .onnx file, or a callable that is exported. Each layer is lowered alone and run on all samples; then the
    most sensitive ones are kept. The list that reaches the target is written as a spec and as arguments of the
    quantizer, and the file that it makes is run. Ctrl-C loses nothing: the same command continues.

    Exits 1 if no list short of all layers reaches the target.
    """
    from harness.precision.layers import parse_lowering
    from harness.precision.sensitivity import JOURNAL, Request, run
    from harness.precision.sensitivity.files import earlier_report, require_own_folders, write
    from harness.precision.sensitivity.search import Target
    from harness.precision.sensitivity.text import lines

    question = _question(model, options)
    lowering = parse_lowering(to)
    target = Target(35.0 if sqnr is None and decisions is None else sqnr, decisions)
    folder: Path = options["output"]
    listener = _Listener()
    require_own_folders(folder)
    if (earlier := earlier_report(folder, model, lowering, target)) is not None:
        listener.tell(f"{folder} has a report on {earlier}, which this one replaces; -o DIR keeps both")
    try:
        found = run(Request(question, lowering, target, folder), listener)
    except KeyboardInterrupt:
        listener.end()
        if (folder / JOURNAL).exists():
            echo(f"what was measured is in {folder / JOURNAL}; the same command continues", error=True)
        raise
    files = write(found, folder, model)
    for line in lines(found):
        echo(line)
    echo(f"Written: {', '.join(map(str, files))}")
    return 0 if found.reached else 1


LADDER_EXAMPLES = """
\b
Examples:
  harness ladder model.onnx --inputs samples/                     every precision on every runtime that is here
  harness ladder net.py:Net --shape x=1,3,224,224                 also PyTorch itself
  harness ladder model.onnx --targets ort-cpu,+int8/ort-cpu,openvino?precision=default
"""


@click.command(epilog=LADDER_EXAMPLES, short_help="Error, latency and size of every precision.")
@_model_options("reports/ladder")
@click.option(
    "--targets", multiple=True, type=WordList(), metavar="LIST", help="Rungs. [default: all that are available here]"
)
def ladder(model: str, targets: Sequence[tuple[str, ...]], **options: Any) -> int:
    """Run MODEL in each precision on each runtime that is here: error, decisions, latency and size of file.

    MODEL is an .onnx file, or a callable that is exported. A rung is written as RUNTIME[?options], with the transforms
    before it, such as +fp16/ort-cpu. PyTorch itself runs a callable as eager/torch-cpu and eager+bf16/torch-cpu.
    """
    from harness.precision.ladder import lines, measure_rungs, write

    found = measure_rungs(_question(model, options), flat(targets), _Listener())
    for line in lines(found):
        echo(line)
    echo(f"Written: {', '.join(map(str, write(found, options['output'])))}")
    return 0


class _Listener:
    """Shows the progress on standard error."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def tell(self, line: str) -> None:
        """Print a line."""
        echo(line, error=True)

    def begin(self, total: int, unit: str = "runs") -> None:
        """Start counting."""
        from rich.console import Console

        from harness.report.terminal import Progress

        self._progress = Progress(Console(stderr=True))
        self._progress.begin(total, unit)

    def advance(self) -> None:
        """Count one more."""
        if self._progress is not None:
            self._progress.advance()

    def end(self) -> None:
        """Stop counting."""
        if self._progress is not None:
            self._progress.end()
            self._progress = None


def _question(model: str, options: dict[str, Any]) -> ModelQuestion:
    """The model and its inputs. Raises :class:`Mistakes` with every word of the command line that is wrong."""
    from harness.precision.model import ModelQuestion
    from harness.spec.model_files import absent_files

    problems: list[str] = []
    shapes, arguments = read_shapes(options["shapes"], problems), read_arguments(options["arguments"], problems)
    problems += _problems_of_model(model)
    problems += _problems_of_exporter(options["exporter"])
    problems += absent_files([model] if is_callable_name(model) else [], options["inputs"], options["weights"])
    if problems:
        raise Mistakes(problems)
    return ModelQuestion(
        model=model,
        home=Path.cwd(),
        inputs=options["inputs"],
        shapes=shapes,
        arguments=arguments,
        weights=options["weights"],
        exporter=options["exporter"],
        samples=options["samples"],
        axis=options["axis"],
    )


def _problems_of_model(model: str) -> list[str]:
    from harness.spec.model_files import is_model_file, stored_model

    if not is_model_file(model):
        form = "name an .onnx file, path/to/file.py:callable or package.module:callable"
        return [] if is_callable_name(model) else [f"{model}: neither an .onnx file nor a callable; {form}"]
    if not model.endswith(".onnx"):
        return [f"{model}: cannot be lowered; give the .onnx file, or the callable that it comes from"]
    try:
        stored_model(Path(model))
    except UsageError as error:
        return [str(error)]
    return []


def _problems_of_exporter(exporter: str) -> list[str]:
    from harness.spec.targets import parse_target

    try:
        target = parse_target(f"{exporter}/ort-cpu")
    except UsageError as error:
        return [f"--exporter {error}"]
    return [f"--exporter {exporter}: has transforms, which --to names"] if target.transforms else []


COMMANDS = (sensitivity, ladder)
