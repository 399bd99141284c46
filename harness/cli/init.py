"""``harness init``: write a first spec for a layer of torch.nn or for your own module."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import closing
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
  harness init net.py:Encoder --input int64:2,16       token ids
"""


def _layers(_ctx: click.Context) -> Iterable[str]:
    from harness.spec.signatures import layer_signatures

    return layer_signatures()


@click.command(epilog=EXAMPLES, short_help="Write a first spec for a layer or your own module.")
@click.argument("module", metavar="LAYER|FILE.py:NAME", shell_complete=complete_word(_layers))
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="Constructor argument, in YAML.")
@click.option("--input", "inputs", multiple=True, metavar="SHAPE", help="Shape of an input, in the order of forward.")
@click.option("-o", "--output", type=FOLDER, metavar="FILE", help="File for the spec. [default: specs/<name>.yaml]")
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="S", help="Seconds for trying the module."
)
def init(module: str, arguments: tuple[str, ...], inputs: tuple[str, ...], output: Path | None, timeout: float) -> int:
    """Write a first spec whose cases run in eager PyTorch. Existing files are never overwritten.

    Your own module is imported and called in a separate process, to find out which inputs it takes.
    """
    from importlib.util import find_spec

    from harness.environment import install_command
    from harness.report.shell import as_argument, command_line
    from harness.spec.language.schema import SCHEMA_FILE, json_schema

    if find_spec("torch") is None:
        raise RuntimeMissing(
            f"harness init needs torch, which is not installed; install with: {install_command('torch')}"
        )
    path = output or Path("specs", f"{module.rpartition(':')[2].lower()}.yaml")
    _refuse_to_overwrite(path)
    shapes, constants = [_input_shape(text) for text in inputs], dict(map(_argument, arguments))
    echo(f"Calling {module} in a separate process to see what it takes (at most {timeout:g} s) ...", error=True)
    spec = _first_spec(module, constants, shapes, timeout)
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


def _first_spec(
    module: str, arguments: dict[str, Any], inputs: list[tuple[tuple[int, ...], str]], timeout: float
) -> FirstSpec:
    """The spec, made in a separate process, so that a module that crashes there becomes a message of one line."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import ProcessEnd, SeparateProcess
    from harness.scaffold import NoSpec, first_spec

    with temporary_folder() as scratch, closing(SeparateProcess(scratch, torch=True, exporting=False)) as process:
        spec = process.call(first_spec, module, arguments, inputs, Path.cwd(), seconds=timeout)
    if isinstance(spec, ProcessEnd):
        check_module = "make sure that it can be imported and called in Python"
        advice = "--timeout sets the limit" if spec.timed_out else check_module
        raise UsageError(f"{module}: {spec.description}; {advice}")
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
