"""``harness init``: a first spec for a layer or for a module of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import FOLDER, SECONDS, words
from harness.cli.process import say
from harness.errors import RuntimeMissing, UsageError

if TYPE_CHECKING:
    from harness.scaffold.write import FirstSpec

EXAMPLES = """
\b
Examples:
  harness init Conv2d                                  a layer of torch.nn
  harness init src/net.py:Net                          a module of yours; its code is run
  harness init net.py:Net --arg classes=10 --input 1,3,224,224
  harness init net.py:Encoder --input int64:2,16       token ids
"""


def _layers(_ctx: click.Context) -> Iterable[str]:
    from harness.spec.signatures import layers

    return layers()


@click.command(epilog=EXAMPLES, short_help="Write a first spec for a layer or a module of yours.")
@click.argument("module", metavar="LAYER|FILE.py:NAME", shell_complete=words(_layers))
@click.option(
    "--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="An argument of the constructor, in YAML."
)
@click.option("--input", "inputs", multiple=True, metavar="SHAPE", help="An input's shape, in the order of forward.")
@click.option("-o", "--output", type=FOLDER, metavar="FILE", help="[default: specs/<name>.yaml]")
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="S", help="Seconds that trying it may take."
)
def init(module: str, arguments: tuple[str, ...], inputs: tuple[str, ...], output: Path | None, timeout: float) -> int:
    """Write a first spec, with cases that eager PyTorch was seen to take; never over a file that is there.

    A module of your own is imported and called, in order to see what it takes, in a process of its own.
    """
    from importlib.util import find_spec

    from harness.report.shell import as_argument, command_line
    from harness.spec.language.schema import SCHEMA_FILE, json_schema

    if find_spec("torch") is None:
        raise RuntimeMissing(
            "harness init tries modules in torch, which is not installed; pip install 'parity-harness[cpu]'"
        )
    path = output or Path("specs", f"{module.rpartition(':')[2].lower()}.yaml")
    _refuse_to_overwrite(path)
    found = _found_out(module, dict(map(_argument, arguments)), [_draft(each) for each in inputs], timeout)
    files, schema = [path], path.parent / SCHEMA_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found.text, encoding="utf-8")
        if not schema.exists():
            schema.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
            files.append(schema)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; name a file that can be written with -o") from error
    leave = ["--allow-import"] if found.runs_own_code else []
    say(f"Written: {', '.join(map(str, files))}")
    say(f"Next: {command_line(['harness', 'run', as_argument(str(path)), *leave])}")
    return 0


def _found_out(
    module: str, arguments: dict[str, Any], inputs: list[tuple[tuple[int, ...], str]], timeout: float
) -> FirstSpec:
    """The spec, found out in a process of its own: whatever a module does there, it is told in one line."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import Contained, Gone
    from harness.scaffold.write import Refused, first_spec

    with temporary_folder() as scratch, closing(Contained(scratch, torch=True, exporting=False)) as contained:
        answer = contained.ask(first_spec, module, arguments, inputs, Path.cwd(), seconds=timeout)
    if isinstance(answer, Gone):
        right = "--timeout sets the limit" if answer.overdue else "see that it can be imported and called in Python"
        raise UsageError(f"{module}: {answer.how}; {right}")
    if isinstance(answer, Refused):
        raise UsageError(answer.why)
    return answer


def _refuse_to_overwrite(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path}: is there already; name another file, such as -o mine/{path.name}")


def _argument(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--arg {text}: not an argument; write NAME=VALUE, such as classes=10")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--arg {text}: not a YAML value; write it as in a spec, such as [2, 3]") from error


def _draft(text: str) -> tuple[tuple[int, ...], str]:
    """An input's shape, and what fills it."""
    dtype, _, sizes = text.rpartition(":")
    if dtype not in {"", "int64"} or not re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", sizes):
        raise UsageError(f"--input {text}: not a shape; write 1,3,224,224, or int64:1,16 for whole numbers")
    return tuple(map(int, sizes.split(","))), "integers" if dtype else "normal"


COMMANDS = (init,)
