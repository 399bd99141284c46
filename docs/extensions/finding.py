"""The directive ``{finding} CASE TARGET``: a shipped case that fails, with its reason and a script to reproduce it."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from harness.reproduction import reproduction
from harness.spec.discovery import Specs, load_specs
from harness.spec.glob import matches
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.targets import parse_target

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

SPECS = Path(__file__).parents[2] / "specs"


class Finding(SphinxDirective):
    """Shows the reason, the issue and the command, and the script in a collapsed block."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes of one finding."""
        case, target = self.arguments[0].split()
        known = known_failure(case, target)
        issue = f" <{known.issue}>" if known.issue else ""
        text = f"> {known.reason}{issue}\n\n```sh\n{command(case, target)}\n```\n"
        return [*self.parse_text_to_nodes(text), *_collapsed(f"The script: {case} on {target}", script(case, target))]


def command(case: str, target: str) -> str:
    """Return the command that explains the finding."""
    return f"harness explain '{case}' --target {target} specs/"


def script(case: str, target: str) -> str:
    """Return the script that reproduces the finding, as harness writes it."""
    spec_case = next(one for one in _specs().cases if one.id == case)
    text = reproduction(spec_case, parse_target(target))
    if text is None:
        raise ValueError(f"{case} on {target}: harness cannot write a script for this case")
    return text


def known_failure(case: str, target: str) -> KnownFailure:
    """Return the first entry of the list of known failures that matches the check."""
    entries = load_known_failures(_specs().known_failures)
    return next(one for one in entries if matches(one.cases, case) and matches(one.targets, target))


@cache
def _specs() -> Specs:
    return load_specs([str(SPECS)])


def _collapsed(summary: str, text: str) -> list[nodes.Node]:
    start = nodes.raw("", f"<details><summary>{escape(summary)}</summary>", format="html")
    return [start, nodes.literal_block(text, text, language="python"), nodes.raw("", "</details>", format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive with Sphinx."""
    app.add_directive("finding", Finding)
    return {"parallel_read_safe": True}
