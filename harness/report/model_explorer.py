"""``report.model-explorer.json``: node data for Model Explorer, which colours nodes by the error of layers.

The format is that of one graph (``GraphNodeData`` of https://github.com/google-ai-edge/model-explorer), so the file has
the layers of one check: the first unexpected one that has some, else the first of all.
"""

from __future__ import annotations

import json
import math

from harness.report.wording import unexpected
from harness.result import Report, Result

LARGEST = 1e9
"""An error that is NaN or infinite, in units of what rounding explains."""

THRESHOLDS = (
    {"value": 0.5, "bgColor": "#d9f0e0"},
    {"value": 1.0, "bgColor": "#fff3c4"},
    {"value": LARGEST, "bgColor": "#f2a09a"},
)
"""Up to half of what rounding explains, up to all of it, and more."""


class ModelExplorerReport:
    """The local error of each layer, in units of what rounding explains, by the name of its value in the file."""

    name = "model-explorer"
    suffix = ".model-explorer.json"

    def render(self, report: Report) -> str:
        """The whole file as text. Without a check that has layers of an ONNX file, there are no results."""
        found = next(filter(_has_values, (*unexpected(report.results), *report.results)), None)
        layers = () if found is None else found.layers
        results = {
            layer.value: {"value": layer.times if math.isfinite(layer.times) else LARGEST}
            for layer in layers
            if layer.value is not None and layer.times is not None
        }
        return json.dumps({"results": results, "thresholds": THRESHOLDS}, indent=1) + "\n"


PROVIDES = (ModelExplorerReport(),)


def _has_values(result: Result) -> bool:
    return any(layer.value is not None for layer in result.layers)
