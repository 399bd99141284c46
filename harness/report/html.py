"""``report.html``: one file that needs no other, no network and no server; to be opened, searched, printed and sent."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from harness.report.facts import about
from harness.report.page.data import page_data
from harness.report.page.headline import headline
from harness.report.wording import printable
from harness.result import Report


class HtmlReport:
    """The head of the page is there without scripts; the rest is made in the browser from data that stand in it once.

    Text of the report is escaped by jinja2, and the script puts it into text nodes only. The page's policy lets
    nothing but its own style and script take effect and nothing be loaded: a hostile case name stays a name.
    """

    name = "html"
    suffix = ".html"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        style, script = _asset("styles.css"), _asset("scripts.js")
        return (
            _environment()
            .get_template("page.html")
            .render(
                style=style,
                style_hash=_hash(style),
                script=script,
                script_hash=_hash(script),
                head=headline(report),
                data=page_data(report),
                environment=[(printable(name), printable(value)) for name, value in about(report)],
            )
        )


PROVIDES = (HtmlReport(),)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report.page", "assets"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` escapes what would end the element that it stands in.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return environment


@cache
def _asset(name: str) -> str:
    return _environment().get_template(name).render()


def _hash(text: str) -> str:
    """The source by which a Content-Security-Policy lets ``text`` take effect, and nothing else."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
