"""Sphinx configuration. Build the site with `make docs`, then open build/docs/index.html."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "harness"
author = "The harness authors"
copyright = "2026, the harness authors"  # noqa: A001 - Sphinx's name for it
version = release = metadata.version("parity-harness")

DIRECTIVES = [
    f"docs.extensions.{name}" for name in ("command_reference", "finding", "spec_reference", "tolerance_table")
]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", *DIRECTIVES]
exclude_patterns = ["extensions"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The recipes are included from CONTRIBUTING.md; its links are relative to the repository.
suppress_warnings = ["myst.xref_missing", "myst.header"]

html_theme = "furo"
html_title = f"harness {version}"
html_show_sourcelink = False
autodoc_typehints = "description"
