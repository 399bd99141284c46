"""``harness init``: a first spec for a layer or for a module of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.completion import words
from harness.cli.options import FOLDER
from harness.errors import RuntimeMissing, UsageError

if TYPE_CHECKING:
    from harness.starter.guesses import Draft

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
def init(module: str, arguments: tuple[str, ...], inputs: tuple[str, ...], output: Path | None) -> int:
    """Write a first spec, with cases that eager PyTorch was seen to take; never over a file that is there.

    A module of your own is imported and called, in order to see what it takes.
    """
    from importlib.util import find_spec

    from harness.spec.schema import json_schema

    if find_spec("torch") is None:
        raise RuntimeMissing(
            "harness init tries modules in torch, which is not installed; pip install 'parity-harness[cpu]'"
        )
    from harness.starter.subject import find
    from harness.starter.trying import find_out
    from harness.starter.writing import SCHEMA, text

    subject = find(module)
    path = output or Path("specs", f"{subject.short.lower()}.yaml")
    _refuse_to_overwrite(path)
    written = text(subject, find_out(subject, dict(map(_argument, arguments)), [_draft(each) for each in inputs]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written, encoding="utf-8")
    files, schema = [path], path.parent / SCHEMA
    if not schema.exists():
        schema.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
        files.append(schema)
    leave = " --allow-import" if subject.kind == "factory" else ""
    click.echo(f"Written: {', '.join(map(str, files))}")
    click.echo(f"Next: harness run {path}{leave}")
    return 0


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


def _draft(text: str) -> Draft:
    from harness.starter.guesses import Draft

    dtype, _, sizes = text.rpartition(":")
    if dtype not in {"", "int64"} or not re.fullmatch(r"\d+(,\d+)*", sizes):
        raise UsageError(f"--input {text}: not a shape; write 1,3,224,224, or int64:1,16 for whole numbers")
    return Draft(tuple(map(int, sizes.split(","))), "integers" if dtype else "normal")


COMMANDS = (init,)
