"""``harness init``: write a first spec for a layer of torch.nn, for your own module, or for a model file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import FOLDER, SECONDS, complete_word
from harness.cli.process import echo
from harness.errors import RuntimeMissing, UsageError

if TYPE_CHECKING:
    from harness.scaffold import FirstSpec

EXAMPLES = """
\b
Examples:
  harness init Conv2d                                  a layer of torch.nn
  harness init src/net.py:Net                          your own module; this runs its code
  harness init net.py:Net --arg classes=10 --input 1,3,224,224
  harness init net.py:Encoder --inputs batch.npz       on your own data
  harness init model.onnx                              a model file
"""


def _layers(_ctx: click.Context) -> Iterable[str]:
    from harness.spec.signatures import layer_signatures

    return layer_signatures()


@click.command(epilog=EXAMPLES, short_help="Write a first spec for a layer, your own module or a model file.")
@click.argument("module", metavar="LAYER|FILE.py:NAME|MODEL", shell_complete=complete_word(_layers))
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="Constructor argument, in YAML.")
@click.option("--input", "shapes", multiple=True, metavar="SHAPE", help="Shape of an input, in the order of forward.")
@click.option("--inputs", metavar="FILE|DIR", help="Data file with the inputs, or folder of them for a model file.")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    metavar="FILE",
    help="File for the spec. [default: specs/<name>.yaml; <name>.yaml for a model file, and with --inputs]",
)
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="S", help="Seconds for trying the module."
)
def init(
    module: str,
    arguments: tuple[str, ...],
    shapes: tuple[str, ...],
    inputs: str | None,
    output: Path | None,
    timeout: float,
) -> int:
    """Write a first spec whose cases run. Existing files are never overwritten.

    The module is a layer of torch.nn, your own (FILE.py:NAME), or a model file: .onnx, .ort, TorchScript or .pt2. It is
    loaded and called in a separate process, to find out which inputs it takes.
    """
    from importlib.util import find_spec

    from harness.environment import install_command
    from harness.report.shell import as_argument, command_line
    from harness.spec.language.schema import SCHEMA_FILE, json_schema
    from harness.spec.model_files import is_model_file

    is_file = is_model_file(module)
    if not (is_file and module.endswith((".onnx", ".ort"))) and find_spec("torch") is None:
        raise RuntimeMissing(
            f"harness init needs torch, which is not installed; install with: {install_command('torch')}"
        )
    name = Path(module).stem if is_file else module.rpartition(":")[2]
    # A spec names only files in its own folder and below.
    path = output or Path("" if is_file or inputs else "specs", f"{name.lower()}.yaml")
    _refuse_to_overwrite(path)
    if shapes and inputs:
        raise UsageError("--input: the inputs come from --inputs; give one of them")
    if is_file and arguments:
        raise UsageError(f"--arg: {module} is a file, which has its own arguments; remove it")
    request = _InitRequest(module, dict(map(_argument, arguments)), tuple(map(_input_shape, shapes)), inputs, path)
    echo(f"Calling {module} in a separate process to see what it takes (at most {timeout:g} s) ...", error=True)
    spec = _first_spec(request, timeout, is_file=is_file)
    files, schema = [path], path.parent / SCHEMA_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(spec.text, encoding="utf-8")
        if not schema.exists():
            schema.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
            files.append(schema)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; use -o to name a file that can be written") from error
    options = ["--allow-import"] if spec.runs_user_code else []
    echo(f"Written: {', '.join(map(str, files))}")
    echo(f"Next: {command_line(['harness', 'run', as_argument(str(path)), *options])}")
    return 0


@dataclass(frozen=True, slots=True)
class _InitRequest:
    """What the command line names: the ``shapes`` with their kinds are of the inputs, ``inputs`` is a data file."""

    module: str
    arguments: dict[str, Any]
    shapes: tuple[tuple[tuple[int, ...], str], ...]
    inputs: str | None
    output: Path


def _first_spec(request: _InitRequest, timeout: float, *, is_file: bool) -> FirstSpec:
    """The spec, made in a separate process, so that a module that crashes there becomes a message of one line."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import ProcessEnd, SeparateProcess
    from harness.scaffold import NoSpec, first_spec
    from harness.scaffold.first_file import first_file_spec

    torch = not (is_file and request.module.endswith((".onnx", ".ort")))
    with temporary_folder() as scratch, closing(SeparateProcess(scratch, torch=torch, exporting=False)) as process:
        spec: FirstSpec | NoSpec | ProcessEnd
        if is_file:
            shapes = tuple(shape for shape, _ in request.shapes)
            data = () if request.inputs is None else (request.inputs,)
            words = (request.module, shapes, data, Path.cwd(), request.output)
            spec = process.call(first_file_spec, *words, seconds=timeout)
        else:
            file = None if request.inputs is None else Path(request.inputs)
            given = (request.module, request.arguments, request.shapes, Path.cwd(), file, request.output)
            spec = process.call(first_spec, *given, seconds=timeout)
    if isinstance(spec, ProcessEnd):
        check_module = "make sure that it can be imported and called in Python"
        advice = "--timeout sets the limit" if spec.timed_out else check_module
        raise UsageError(f"{request.module}: {spec.description}; {advice}")
    if isinstance(spec, NoSpec):
        raise UsageError(spec.reason)
    return spec


def _refuse_to_overwrite(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} already exists; name another file, such as -o mine/{path.name}")


def _argument(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--arg {text}: not an argument; write NAME=VALUE, such as classes=10")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--arg {text}: not a YAML value; write it as in a spec, such as [2, 3]") from error


def _input_shape(text: str) -> tuple[tuple[int, ...], str]:
    """The shape of an input and its kind: ``integers`` for int64, else ``normal``."""
    dtype, _, sizes = text.rpartition(":")
    if dtype not in {"", "int64"} or not re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", sizes):
        raise UsageError(f"--input {text}: not a shape; write 1,3,224,224, or int64:1,16 for whole numbers")
    return tuple(map(int, sizes.split(","))), "integers" if dtype else "normal"


COMMANDS = (init,)
