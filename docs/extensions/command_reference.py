"""The directive ``{command-reference}``: every command with its arguments and options, from the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from harness.cli import cli

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata


class CommandReference(SphinxDirective):
    """Shows one section for each command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return self.parse_text_to_nodes(reference(), allow_section_headings=True)


def reference() -> str:
    """Return the reference in Markdown."""
    root = click.Context(cli, info_name="harness", max_content_width=100)
    return "\n\n".join(section for name in cli.list_commands(root) for section in _sections(root, name))


def _sections(parent: click.Context, name: str) -> Iterator[str]:
    command = parent.command.get_command(parent, name) if isinstance(parent.command, click.Group) else None
    assert command is not None
    ctx = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(ctx))
    parts = [f"## {ctx.command_path}", f"```\n{ctx.command_path} {usage}\n```", _text(command.help or "")]
    rows = [_row(ctx, param) for param in command.get_params(ctx) if isinstance(param, click.Option)]
    parts.append("\n".join(["| option | does |", "|---|---|", *rows]))
    if command.epilog:
        parts.append("```\n" + "\n".join(_examples(command.epilog)) + "\n```")
    yield "\n\n".join(parts)
    if isinstance(command, click.Group):
        for each in command.list_commands(ctx):
            yield from _sections(ctx, each)


def _row(ctx: click.Context, option: click.Option) -> str:
    """One row of the table, with the words of ``--help``."""
    record = option.get_help_record(ctx)
    assert record is not None
    names, text = record
    return f"| {_cell(f'`{names}`')} | {_cell(_text(text))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _text(text: str) -> str:
    """The text of a help page with nothing in it that Markdown would interpret."""
    return re.sub(r"([\\*_<>\[\]`])", r"\\\1", text.replace("\b", "").strip())


def _examples(epilog: str) -> Iterator[str]:
    lines = epilog.replace("\b", "").strip().splitlines()
    yield from (line.removeprefix("  ") for line in lines if line.strip() != "Examples:")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True}
