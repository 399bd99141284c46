"""The directive ``{spec-reference}``: every key of a spec, from the JSON Schema that editors use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from harness.spec.language.schema import json_schema

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

Schema = dict[str, Any]
ORDER = ("Case", "Input", "Tensor", "Expect", "Step", "WiredStep", "WiredOperation", "OtherModel", "Defaults")
NESTED = {"InputTree": "an [Input](#input), a list or a mapping of inputs, or null"}
"""Kinds that have no keys of their own, in words."""


class SpecReference(SphinxDirective):
    """Shows one section for each kind of mapping in the spec language, with a table of its keys."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return self.parse_text_to_nodes(reference(json_schema()), allow_section_headings=True)


def reference(schema: Schema) -> str:
    """Return the reference in Markdown.

    Raises ValueError if ORDER lacks a kind of mapping that the schema defines.
    """
    kinds = schema["$defs"]
    missing = set(kinds) - set(ORDER) - set(NESTED)
    if missing:
        raise ValueError(f"ORDER lacks {', '.join(sorted(missing))}; add them")
    file = _section("The file", schema, kinds)
    return "\n\n".join([file, *(_section(name, kinds[name], kinds) for name in ORDER)])


def _section(title: str, kind: Schema, kinds: Schema) -> str:
    required = set(kind.get("required", ()))
    rows = [_row(key, value, kinds, required=key in required) for key, value in kind["properties"].items()]
    table = "\n".join(["| key | holds | about |", "|---|---|---|", *rows])
    return f"## {title}\n\n{kind['description']}\n\n{table}"


def _row(key: str, value: Schema, kinds: Schema, *, required: bool) -> str:
    about = value.get("description") or kinds[_name(value)]["description"]
    suffix = " Required." if required else _default(value)
    return f"| `{key}` | {_holds(value)} | {about}{suffix} |"


def _default(value: Schema) -> str:
    default = value.get("default")
    return f" Default: `{default}`." if isinstance(default, str) and default else ""


def _name(value: Schema) -> str:
    return str(value["$ref"]).rpartition("/")[2]


def _holds(value: Schema) -> str:
    """Describe the values of a key in a few words."""
    if "$ref" in value:
        return NESTED.get(_name(value)) or f"[{_name(value)}](#{_name(value).lower()})"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_holds(each) for each in value["anyOf"] if each.get("type") != "null"))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    kind = value.get("type")
    if isinstance(kind, list):
        return " or ".join(_holds(value | {"type": each}) for each in kind)
    if kind == "array":
        return f"a list of: {_holds(value['items'])}" if value.get("items") else "a list"
    if kind == "object":
        return _mapping(value)
    return {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "a boolean"}.get(
        str(kind), "anything"
    )


def _mapping(value: Schema) -> str:
    keys = value.get("properties")
    if keys:
        return "`{" + ", ".join(f"{key}: ..." for key in keys) + "}`"
    inner = value.get("additionalProperties") or next(iter(value.get("patternProperties", {}).values()), None)
    return f"a mapping to: {_holds(inner)}" if isinstance(inner, dict) else "a mapping"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive with Sphinx."""
    app.add_directive("spec-reference", SpecReference)
    return {"parallel_read_safe": True}
