"""``harness scan``: write a spec with one case for each layer configuration of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.option_values import is_callable_name, read_arguments, read_shapes
from harness.cli.options import FOLDER, SECONDS
from harness.cli.process import echo
from harness.errors import Mistakes, RuntimeMissing, SpecError, UsageError, shortened

if TYPE_CHECKING:
    from harness.scaffold.comparison import Question
    from harness.scaffold.scan import Configuration, NotCovered, ScannedModel

EXAMPLES = """
\b
Examples:
  harness scan net.py:Net -o layers.yaml                                the layers of a model
  harness scan net.py:Net --shape image=1,3,224,224 -o layers.yaml      at the shapes that it meets
  harness scan net.py:Net --inputs batch.npz --whole -o layers.yaml     and the whole model beside them
"""
MAX_PATHS = 6
"""Paths that are named in `about`; a comment has all of them."""
MAX_PLACES = 3
MAX_SHOWN = 12
"""Functions that are listed on the terminal; the spec has all of them."""
LINE_WIDTH = 110


@click.command(epilog=EXAMPLES, short_help="Write a spec with the layers of a model.")
@click.argument("model", metavar="MODEL")
@click.option("--inputs", metavar="FILE|DIR", help="Data file with inputs. [default: drawn]")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of a drawn input.")
@click.option("--args", "arguments", metavar="YAML", help="Arguments of the callable, such as '{classes: 10}'.")
@click.option("--weights", metavar="FILE", help="All weights of the model: .pt, a checkpoint, or .safetensors.")
@click.option("--whole", is_flag=True, help="Add a case of the whole model, whose time is set beside its layers'.")
@click.option("-o", "--output", type=FOLDER, required=True, metavar="SPEC", help="File for the spec.")
@click.option(
    "--timeout", type=SECONDS, default=300.0, show_default=True, metavar="S", help="Seconds for running the model."
)
def scan(model: str, output: Path, timeout: float, **options: Any) -> int:
    """Write a spec with one case for each layer configuration that occurs in MODEL: class, arguments, input shapes.

    MODEL is path/to/file.py:callable or package.module:callable; it is imported, built and run once. Weights and
    inputs are not included. What the spec does not cover is listed.
    """
    from importlib.util import find_spec

    from harness.environment import install_command
    from harness.report.shell import as_argument, command_line

    if find_spec("torch") is None:
        raise RuntimeMissing(
            f"harness scan needs torch, which is not installed; install with: {install_command('torch')}"
        )
    if output.exists():
        raise UsageError(f"-o {output}: already exists; name another file")
    question = _question(model, options)
    scanned = _scanned(question, timeout)
    if not scanned.configurations:
        raise Mistakes([f"{model}: no layer has a case", *map(_line, (*scanned.layers, *scanned.functions))])
    cases = _cases(scanned, whole=options["whole"])
    runs_code = _write(output, model, scanned, _moved(cases, question.home, output))
    for line in _screen(model, scanned):
        echo(line)
    echo(f"Written: {output}")
    words = ["--allow-import"] if runs_code else []
    echo(f"Next: {command_line(['harness', 'run', as_argument(str(output)), *words])}")
    return 0


def _question(model: str, options: Mapping[str, Any]) -> Question:
    """The request. Raises :class:`SpecError` with every mistake of the command line."""
    from harness.scaffold.comparison import Question
    from harness.spec.model_files import absent_files, is_model_file

    problems: list[str] = []
    shapes, arguments = read_shapes(options["shapes"], problems), read_arguments(options["arguments"], problems)
    form = "name path/to/file.py:callable or package.module:callable"
    if is_model_file(model):
        problems.append(f"{model}: a file does not say of which layers it was made; {form}")
    elif not is_callable_name(model):
        problems.append(f"{model}: not a callable; {form}")
    if options["inputs"] and shapes:
        problems.append("--shape: the inputs come from --inputs; give one of them")
    given = (options["inputs"],) if options["inputs"] else ()
    problems += absent_files([] if is_model_file(model) else [model], given, options["weights"])
    if problems:
        raise Mistakes(problems)
    return Question("", model, Path.cwd(), given, shapes, arguments, options["weights"])


def _scanned(question: Question, seconds: float) -> ScannedModel:
    """The model's layers, found in a separate process, which runs its code."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import ProcessEnd, SeparateProcess
    from harness.scaffold.scan import NoScan, scan_model

    with temporary_folder() as scratch, closing(SeparateProcess(scratch, torch=True, exporting=False)) as process:
        scanned = process.call(scan_model, question, seconds=seconds)
    if isinstance(scanned, ProcessEnd):
        advice = "--timeout sets the limit" if scanned.timed_out else "make sure that it runs in Python"
        raise UsageError(f"{question.reference}: {scanned.description}; {advice}")
    if isinstance(scanned, NoScan):
        raise Mistakes(scanned.problems)
    return scanned


# The spec


def _cases(scanned: ScannedModel, *, whole: bool) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """The keys of each case with the paths of its calls."""
    kinds = [each.kind for each in scanned.configurations]
    numbers: dict[str, int] = {}
    cases: list[tuple[dict[str, Any], Sequence[str]]] = []
    for each in scanned.configurations:
        numbers[each.kind] = numbers.get(each.kind, 0) + 1
        name = each.kind.lower() + (f"-{numbers[each.kind]}" if kinds.count(each.kind) > 1 else "")
        cases.append(({"name": name, "about": _about(each), "count": len(each.paths), **each.keys}, each.paths))
    return [*cases, (dict(scanned.whole), ())] if whole else cases


def _about(configuration: Configuration) -> str:
    paths = list(dict.fromkeys(configuration.paths))
    shown = ", ".join(paths[:MAX_PATHS]) + (f" and {len(paths) - MAX_PATHS} more" if len(paths) > MAX_PATHS else "")
    return f"{_calls(len(configuration.paths))}: {shown}"


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number:,} calls"


def _moved(
    cases: Sequence[tuple[dict[str, Any], Sequence[str]]], home: Path, output: Path
) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """The cases with paths relative to the spec. Raises :class:`UsageError` for one that a spec there cannot name."""
    from harness.scaffold.comparison import moved_spec
    from harness.spec.discovery import spec_folder

    try:
        spec = moved_spec({"cases": [case for case, _ in cases]}, home, spec_folder(output))
    except UsageError as error:
        raise UsageError(f"-o {output}: {error}, or write the spec beside it") from None
    return [(case, paths) for case, (_, paths) in zip(spec["cases"], cases, strict=True)]


def _write(
    output: Path, model: str, scanned: ScannedModel, cases: Sequence[tuple[dict[str, Any], Sequence[str]]]
) -> bool:
    """Write the spec, and read it back. True if it needs ``--allow-import``."""
    from harness.spec.discovery import load_specs

    runs_code = any("factory" in case for case, _ in cases)
    text = "\n".join(_text(model, scanned, cases)) + "\n"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror}; name a file that can be written") from error
    try:
        load_specs([output], allow_import=True)
    except SpecError:
        output.unlink()
        raise
    return runs_code


def _text(model: str, scanned: ScannedModel, cases: Sequence[tuple[dict[str, Any], Sequence[str]]]) -> Iterator[str]:
    from harness.report.shell import command_line
    from harness.scaffold import flow

    command = command_line(["harness", "scan", model])
    yield f"# Written by `{command}`: one case for each layer configuration. Weights are not included."
    yield from (f"# Input {each}" for each in scanned.inputs)
    if scanned.layers or scanned.functions:
        yield "# Not covered:"
        yield from (f"#   {_line(each, every_place=True)}" for each in (*scanned.layers, *scanned.functions))
    yield "harness: 1"
    yield f"about: {flow(f'The layers of {model}.')}"
    yield "cases:"
    for case, paths in cases:
        unique = list(dict.fromkeys(paths))
        if len(unique) > MAX_PATHS:
            yield from _comment(unique)
        for number, (key, value) in enumerate(case.items()):
            yield f"{'  - ' if number == 0 else '    '}{key}: {flow(value)}"
        yield ""


def _comment(paths: Sequence[str]) -> Iterator[str]:
    line = "  # "
    for path in paths:
        if len(line) + len(path) > LINE_WIDTH:
            yield line.rstrip()
            line = "  # "
        line += f"{path} "
    yield line.rstrip()


# The screen


def _screen(model: str, scanned: ScannedModel) -> Iterator[str]:
    number = len(scanned.configurations)
    what = "1 configuration" if number == 1 else f"{number} configurations"
    yield f"{model}: {_calls(scanned.calls)} of layers, {what}"
    yield from (f"  input  {each}" for each in scanned.inputs)
    for each in scanned.configurations:
        name = str(each.keys.get("layer") or each.keys.get("factory") or each.kind)
        graph = each.keys.get("graph", [{}])[0]
        arguments = each.keys.get("args") or graph.get("args") or {}
        called = f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
        yield f"  {len(each.paths):>4} x {shortened(called, LINE_WIDTH)}"
    if scanned.layers or scanned.functions:
        yield "Not covered:"
        yield from (f"  {_line(each)}" for each in scanned.layers)
        yield from (f"  {_line(each)}" for each in scanned.functions[:MAX_SHOWN])
        if further := scanned.functions[MAX_SHOWN:]:
            yield f"  ... and {len(further)} more functions, which the spec lists"


def _line(each: NotCovered, *, every_place: bool = False) -> str:
    places = list(dict.fromkeys(each.places))
    limit = len(places) if every_place else MAX_PLACES
    shown = ", ".join(places[:limit]) + (f" and {len(places) - limit} more places" if len(places) > limit else "")
    return f"{each.what}, {_calls(len(each.places))}: {each.reason}; {shown}"


COMMANDS = (scan,)
