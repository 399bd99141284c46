"""Every command on the site is run on the files that its page shows, with the exit code and output shown there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from sphinx.application import Sphinx

from harness.cli import cli
from tests.conftest import Call

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
CAPTION = re.compile(r":caption: (?P<path>\S+)\n\n?")
COMMAND = re.compile(r"(?P<words>.*?)(?:\s+# exit code (?P<code>\d))?")


README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d[\d.,]*(?:e-\d+)?")
README_NET = """
import torch
from torch import nn


def net():
    torch.manual_seed(0)
    pool = nn.AvgPool2d(2, divisor_override=3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(900, 5)).eval()


if __name__ == "__main__":
    torch.save(net().state_dict(), "net.pt")
    torch.onnx.export(net(), (torch.randn(1, 3, 32, 32),), "model.onnx", dynamo=False, output_names=["linear"])
"""


@dataclass(frozen=True)
class File:
    """A file that the page tells the reader to save."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command that the page tells the reader to type, and its exit code."""

    words: tuple[str, ...]
    code: int


@dataclass(frozen=True)
class Output:
    """The output that the page shows for the last command; ``...`` matches anything."""

    text: str


def steps(page: str) -> Iterator[File | Command | Output]:
    """Yield the files, commands and outputs of a page, in order."""
    for token in MarkdownIt().parse(page):
        if token.type != "fence":
            continue
        caption = CAPTION.match(token.content)
        if token.info.startswith("{code-block}") and caption:
            yield File(caption["path"], token.content[caption.end() :])
        elif token.info == "sh":
            yield from map(_command, token.content.splitlines())
        elif token.info == "text":
            yield Output(token.content)


def _command(line: str) -> Command:
    parts = COMMAND.fullmatch(line)
    assert parts is not None
    return Command(tuple(shlex.split(parts["words"])), int(parts["code"] or 0))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_what_a_page_shows_can_be_done(page: str, here: Path, harness: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{here}:{ROOT}")
    printed = ""
    for step in steps(PAGES[page].read_text(encoding="utf-8")):
        match step:
            case File(path, text):
                (here / path).parent.mkdir(parents=True, exist_ok=True)
                (here / path).write_text(text, encoding="utf-8")
                if path.endswith(".py") and not Path(path).name.startswith(("test_", "my_")):
                    assert _python(path) == (0, "")
            case Command(("harness", *arguments), code):
                ran = harness(*arguments)
                printed = ran.out + ran.err
                assert (ran.code, arguments) == (code, arguments), printed
            case Command(("python", *arguments), code):
                assert _python(*arguments)[0] == code
            case Command(("tar", *arguments), code):
                assert subprocess.run(["tar", *arguments], check=False).returncode == code
            case Command(("pip", "install", what), _):
                assert _extra(what) in _extras()
            case Output(text):
                assert _flat(printed).find(_flat(text.partition("...")[0])) >= 0, printed
            case _:
                pytest.fail(f"{page} shows {step}, which no test runs")


def test_the_first_screen_of_the_readme_is_true(here: Path, harness: Call) -> None:
    """``harness compare`` prints each phrase of the answer, with other digits."""
    (here / "net.py").write_text(README_NET, encoding="utf-8")
    assert _python("net.py") == (0, "")
    blocks = [token for token in MarkdownIt().parse(README.partition("## ")[0]) if token.type == "fence"]
    _install, command, answer, _test = (token.content for token in blocks)
    ran = harness(*shlex.split(command)[1:])
    assert ran.code == 1
    printed = NUMBER.sub("N", _flat(ran.out))
    phrases = [phrase for line in answer.splitlines() for phrase in re.split(r"  +", line) if phrase]
    assert len(phrases) > 10
    assert [phrase for phrase in phrases if NUMBER.sub("N", phrase) not in printed] == []


def test_messages_are_listed_as_harness_prints_them() -> None:
    """Each heading of the page consists of texts of harness; ``...`` stands for what differs."""
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^## `(.*)`$", page, re.MULTILINE)
    assert len(messages) >= 10
    assert len(messages) == len(re.findall(r"^## ", page, re.MULTILINE))
    texts = "\n".join(_texts())
    parts = [part.strip(" .") for message in messages for part in message.split("...")]
    assert [part for part in parts if part not in texts] == []


def _texts() -> Iterator[str]:
    """The string constants of harness, those inside f-strings too."""
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_a_command_that_does_not_do_what_its_page_says_is_detected(harness: Call) -> None:
    (command,) = steps("```sh\nharness check nowhere/   # exit code 0\n```\n")
    assert isinstance(command, Command)
    assert harness(*command.words[1:]).code != command.code


@pytest.mark.filterwarnings("ignore")  # of Sphinx and its themes
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = Sphinx(DOCS, DOCS, tmp_path / "html", tmp_path / "trees", "html", warningiserror=True, status=None)
    site.build()
    assert site.statuscode == 0
    reference = (tmp_path / "html" / "specs.html").read_text(encoding="utf-8")
    assert "differs_from" in reference
    commands = (tmp_path / "html" / "commands.html").read_text(encoding="utf-8")
    assert all(f"<h2>harness {name}<" in commands for name in cli.commands)
    assert all(text in commands for text in ("--maxfail", "Repeat it for more cases", "harness known-failures update"))
    assert "divisor_override" in (tmp_path / "html" / "gallery" / "index.html").read_text(encoding="utf-8")


def _python(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stderr if done.returncode else ""


def _flat(text: str) -> str:
    return " ".join(text.split())


def _extra(requirement: str) -> str:
    return requirement.partition("[")[2].rstrip("]")


def _extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
