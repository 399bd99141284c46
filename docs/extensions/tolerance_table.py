"""The directive ``{tolerance-table}``: the tolerance of each layer, from the layers themselves."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from harness.registry import plugins

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from harness.layers import Layer

DTYPES = ("float32", "float64", "float16", "bfloat16")
FORMATS = {"TorchScript": None, "ONNX, opset 17": 17, "ONNX, opset 23": 23}
EXAMPLE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "AvgPool1d": {"kernel_size": 3},
    "AvgPool2d": {"kernel_size": 3},
    "AvgPool3d": {"kernel_size": 3},
    "Linear": {"in_features": 64},
}
"""Arguments for layers whose tolerance depends on them."""


class ToleranceTable(SphinxDirective):
    """Shows one section for each layer that has a file: its rule by dtype and format, and how it was derived."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        layers = cast("dict[str, Layer]", dict(plugins("layers")))
        text = "\n\n".join(_section(layer) for _, layer in sorted(layers.items()))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _section(layer: Layer) -> str:
    args = EXAMPLE_ARGUMENTS.get(layer.name, {})
    example = f" For example with {', '.join(f'`{key}={value}`' for key, value in args.items())}:" if args else ""
    rows = [_row(layer, args, dtype) for dtype in DTYPES]
    table = "\n".join([f"| dtype | {' | '.join(FORMATS)} |", "|---" * (1 + len(FORMATS)) + "|", *rows])
    return f"### {layer.name}\n\n{inspect.getdoc(layer.tolerance)}{example}\n\n{table}"


def _row(layer: Layer, args: dict[str, Any], dtype: str) -> str:
    rules = [str(layer.tolerance(args, dtype, opset).rule) for opset in FORMATS.values()]
    return f"| `{dtype}` | {' | '.join(rules)} |"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive with Sphinx."""
    app.add_directive("tolerance-table", ToleranceTable)
    return {"parallel_read_safe": True}
