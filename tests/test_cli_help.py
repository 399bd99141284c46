"""The help of the command line: its examples are valid, it imports little, and words are completed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from harness.cli import cli
from tests.conftest import Call

Write = Callable[[str, str], Path]
SPEC = "harness: 1\nlayer: ReLU\ncases:\n  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}}\n"
TARGETS = "default: [trace/torch-cpu]\nonnx: [onnx-dynamo@23/ort-cpu]\n"


def commands(group: click.Group = cli, *above: str) -> Iterator[tuple[str, ...]]:
    """Return the words of every command."""
    for name, command in group.commands.items():
        yield from commands(command, *above, name) if isinstance(command, click.Group) else [(*above, name)]


def examples(text: str) -> list[list[str]]:
    """Return the words of each example in a help text, without its description."""
    shown = re.findall(r"^ +harness (\S.*)$", text, re.MULTILINE)
    return [shlex.split(re.split(r" {2,}| > ", line)[0]) for line in shown]


def parse(words: list[str]) -> None:
    """Raise if harness's command line does not accept these words."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    command.make_context("harness", words)


@pytest.mark.parametrize("command", [(), *commands()], ids=" ".join)
def test_every_command_has_valid_examples(harness: Call, command: tuple[str, ...]) -> None:
    shown = examples(harness(*command, "--help").out)
    assert shown
    assert tuple(shown[0][: len(command)]) == command
    for words in shown:
        parse(words)


def test_the_help_imports_neither_the_environment_nor_results() -> None:
    code = (
        "import sys; sys.argv = ['harness', '--help']; from harness.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print({'harness.environment', 'harness.result', 'importlib.metadata'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


def test_no_line_of_the_overview_is_cut_short(harness: Call) -> None:
    overview = harness("--help").out.partition("Commands:")[2].partition("Examples:")[0]
    assert len(overview.splitlines()) > len(list(commands()))
    assert "..." not in overview


ROOT = Path(__file__).parents[1]
SHOWN = {"README.md": "sh", "CONTRIBUTING.md": "sh", "reports/README.md": "sh"} | {
    f"docs/{page}.md": "shell" for page in ("ci", "index", "recipes")
}
"""Pages and their language of commands that no test runs; tests/test_docs.py runs what docs/ shows in ``sh``."""


@pytest.mark.parametrize("page", SHOWN)
def test_every_command_of_a_page_is_valid(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{SHOWN[page]}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in re.findall(r"^harness (.*)$", block, re.MULTILINE)]
    for line in commands:
        parse(shlex.split(line, comments=True))
    assert commands or page in {"CONTRIBUTING.md", "reports/README.md"}, "nothing was looked at"


def test_a_wrong_example_would_be_seen() -> None:
    (words,) = examples("Examples:\n  harness run specs/ --no-such-option   what it does\n")
    with pytest.raises(click.NoSuchOption):
        parse(words)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("harness kno", ["known-failures"]),
        ("harness known-failures ", ["update"]),
        ("harness run --form", ["--format"]),
        ("harness run specs --format json,ju", ["json,junit"]),
        (
            "harness run specs --format json,md,html,junit,csv,gi",
            ["json,md,html,junit,csv,github", "json,md,html,junit,csv,github-action-benchmark"],
        ),
        ("harness run specs --targets ", ["default", "onnx", "trace/torch-cpu", "onnx-dynamo@23/ort-cpu"]),
        ("harness run specs --targets onnx,tr", ["onnx,trace/torch-cpu"]),
        ("harness run --require tra", ["tract"]),
        ("harness list specs -k re", ["relu/signed"]),
        ("harness explain re", ["relu/signed"]),
        ("harness explain relu/signed --target o", ["onnx-dynamo@23/ort-cpu"]),
        ("harness init Conv2", ["Conv2d"]),
        ("harness list elsewhere -k ", ["linear/signed"]),
        ("harness list broken -k ", []),
    ],
)
def test_words_are_completed(
    harness: Call, spec: Write, monkeypatch: pytest.MonkeyPatch, line: str, offered: list[str]
) -> None:
    spec("relu.yaml", SPEC)
    spec("targets.yaml", TARGETS)
    spec("../elsewhere/linear.yaml", SPEC)
    spec("../broken/relu.yaml", "harness: 2\n")
    words = line.split(" ")
    monkeypatch.setenv("_HARNESS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert harness().out.split() == [f"plain,{word}" for word in offered]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(harness: Call, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    assert f"_HARNESS_COMPLETE={shell}_source harness" in harness("--help").out
    monkeypatch.setenv("_HARNESS_COMPLETE", f"{shell}_source")
    assert f"_HARNESS_COMPLETE={shell}_complete" in harness().out
