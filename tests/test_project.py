"""The project as a whole: its files agree with each other."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from operator import gt
from pathlib import Path
from typing import Any, get_args

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import harness
from benchmarks.call_path import CallPath, measure
from benchmarks.versions.environments import lowest
from benchmarks.versions.outcome import read_outcomes
from benchmarks.versions.report import OUTCOMES, REPORT, markdown
from harness.registry import plugins
from harness.spec.discovery import load_specs
from harness.spec.expressions.functions import FUNCTIONS
from harness.spec.language.case import FillKind, Layout
from harness.spec.language.schema import json_schema

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"

HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "openvino", "tract", "scipy"}
"""Packages that are slow to import or optional."""

HEAVY_PACKAGES = ("audit", "blame", "check", "engine", "fixes", "inside", "latency", "model", "scaffold")
"""Packages that only worker processes import.

All other modules must import quickly: the command line and the parent process of a run import them.
"""


def quick_modules() -> list[Path]:
    heavy = [PACKAGE / name for name in HEAVY_PACKAGES]
    return sorted(path for path in PACKAGE.rglob("*.py") if not any(path.is_relative_to(folder) for folder in heavy))


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# Imports


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """The packages that a module imports at import time, not inside functions or only for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", {"torch"}),
        ("from torch import nn", {"torch"}),
        ("try:\n    import onnx\nexcept ImportError:\n    pass", {"onnx"}),
        ("class Late:\n    import scipy", {"scipy"}),
        ("def late():\n    import torch", set()),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import onnx", {"onnx"}),
    ],
)
def test_imports_at_once_are_distinguished_from_late_ones(source: str, expected: set[str]) -> None:
    assert set(imported_at_once(ast.parse(source))) == expected


@pytest.mark.parametrize("path", quick_modules(), ids=name_of)
def test_quick_modules_name_nothing_heavy_at_their_top(path: Path) -> None:
    assert not HEAVY & set(imported_at_once(ast.parse(path.read_text(encoding="utf-8"))))


def test_quick_modules_bring_nothing_heavy_in() -> None:
    """Import the modules: an imported module may itself import a heavy package."""
    names = [name_of(path) for path in quick_modules() if path.name != "__main__.py"]
    result = python("-c", f"import sys, {', '.join(names)}; print(*sorted({HEAVY!r} & sys.modules.keys()))")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["--version"], ["schema"], ["check", "specs/"], ["list", "specs/"]]
)
def test_quick_commands_never_import_torch(arguments: list[str]) -> None:
    done = python("-X", "importtime", "-m", "harness", *arguments)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "harness" in imported, "nothing was measured"
    assert not HEAVY & imported


@pytest.mark.parametrize(
    "words",
    [["run", "specs/relu.yaml", "--no-cache"], ["pack", "specs/relu.yaml", "-o", "x"], ["compare", "m", "net.py:Net"]],
)
def test_the_libraries_of_the_workers_load_while_the_command_loads_its_own(words: list[str], tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.touch()
    words = [str(model) if word == "m" else word for word in words]
    program = f"""
import os, sys
from harness.engine.processes.fork_server import ForkServer

def stop(server, needed):
    print(needed, *{{"numpy", "pydantic", "yaml"}} & sys.modules.keys(), flush=True)
    os._exit(0)

ForkServer.start = stop
from harness.cli import main
main({words!r})
"""
    done = python("-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["specs" if words[0] == "compare" else "exports"]


# Packaging


def extras() -> dict[str, list[Requirement]]:
    return {
        extra: [Requirement(text) for text in texts]
        for extra, texts in project()["project"]["optional-dependencies"].items()
    }


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    read = [Requirement(line) for line in lines if line and not line.startswith("#")]
    active = [pin for pin in read if pin.marker is None or pin.marker.evaluate()]
    assert all(len(pin.specifier) == 1 and next(iter(pin.specifier)).operator == "==" for pin in active)
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in active}


def named_requirements() -> list[Requirement]:
    base = [Requirement(text) for text in project()["project"]["dependencies"]]
    requirements = base + [requirement for some in extras().values() for requirement in some]
    return [requirement for requirement in requirements if requirement.name != "parity-harness"]


@pytest.mark.parametrize("requirement", named_requirements(), ids=str)
def test_constraints_are_within_the_ranges(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    if name == "onnxruntime-gpu":
        assert name not in pins(), "it shares its module with onnxruntime, which is what is tested"
        return
    assert requirement.specifier.contains(pins()[name])


def needed_here() -> Iterator[str]:
    """Every distribution that the package needs on this machine with its ``cpu`` and ``dev`` extras."""
    seen: set[tuple[str, str]] = set()
    waiting = [("parity-harness", ""), ("parity-harness", "cpu"), ("parity-harness", "dev")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        yield name
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                dependency = canonicalize_name(needed.name)
                waiting += [(dependency, ""), *((dependency, inner) for inner in needed.extras)]


def test_constraints_pin_everything_that_is_installed_with_the_package() -> None:
    unpinned = set(needed_here()) - pins().keys() - {"parity-harness"}
    by_torch = ("triton", "nvidia-", "cuda-")  # its CUDA build pins these itself
    assert {name for name in unpinned if not name.startswith(by_torch)} == set()


INDIRECT = {"pydantic_core": "pydantic", "google": "onnx", "typing_extensions": "pydantic"}
"""Modules that harness imports, with the declared library that requires them."""

NAMES = {"yaml": "pyyaml", "ml_dtypes": "ml-dtypes", "pynvml": "nvidia-ml-py", "pytest": ""}
"""Modules with another name than their distribution; pytest loads the plugin, so pytest is installed."""


def imported_anywhere() -> set[str]:
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | named} - sys.stdlib_module_names - {"harness"}


def test_every_import_is_of_a_declared_library() -> None:
    base = {canonicalize_name(Requirement(text).name) for text in project()["project"]["dependencies"]}
    optional = ("cpu", "cuda", "openvino", "tract", "transforms", "ray")
    further = {canonicalize_name(one.name) for extra in optional for one in extras()[extra]}
    needed = {INDIRECT.get(name, NAMES.get(name, name)) for name in imported_anywhere()} - {""}
    assert {"click", "onnx", "torch", "pyyaml"} <= needed, "nothing was looked at"
    assert needed - base - further == set()
    assert base - needed == set(), "declared, and imported nowhere"


def test_both_extras_for_a_host_name_the_same_oldest_versions() -> None:
    cpu, cuda = ({one.name: str(one.specifier) for one in extras()[extra]} for extra in ("cpu", "cuda"))
    assert cpu["torch"] == cuda["torch"]
    assert cpu["onnxscript"] == cuda["onnxscript"]
    assert cpu["onnxruntime"] == cuda["onnxruntime-gpu"]


def test_the_oldest_versions_are_those_that_were_tried() -> None:
    """Oldest versions must be tested: run ``make matrix MATRIX='-s lowest'`` after a change."""
    tried = read_outcomes(OUTCOMES)["lowest"]
    assert tried.packages is not None
    assert lowest().keys() == tried.packages.keys()
    for name, floor in lowest().items():
        assert Version(tried.packages[name].partition("+")[0]) == Version(floor), name


def test_the_report_on_versions_is_made_of_its_outcomes() -> None:
    assert REPORT.read_text(encoding="utf-8") == markdown(read_outcomes(OUTCOMES))


def test_no_extra_brings_both_builds_of_onnxruntime() -> None:
    for extra, requirements in extras().items():
        assert len({one.name for one in requirements} & {"onnxruntime", "onnxruntime-gpu"}) <= 1, extra


def test_a_board_gets_no_torch() -> None:
    base = {Requirement(text).name for text in project()["project"]["dependencies"]}
    assert not {"torch", "onnxscript", "onnxruntime"} & (base | {one.name for one in extras()["target"]})


def test_versions_agree() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)
    assert newest is not None
    assert harness.__version__ == distribution("parity-harness").version == newest[1]


def test_every_fragment_of_the_changelog_is_in_the_next_one() -> None:
    """Towncrier silently ignores fragments of an unknown type or with an unknown suffix."""
    drafted = python("-m", "towncrier", "build", "--draft", "--version", "1000", "--date", "2000-01-01")
    assert drafted.returncode == 0, drafted.stderr
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.suffix != ".jinja"]
    texts = [" ".join(path.read_text(encoding="utf-8").split()) for path in fragments]
    assert [text for text in texts if text not in " ".join(drafted.stdout.split())] == []


# Source tree


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_a_file_is_short_enough_to_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def documents() -> list[Path]:
    """The Markdown files that the project ships; reports of a run are not among them."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in paths if not path.name.startswith("."))


LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of ``document``."""
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#{1,6}\s+(.*?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: os.path.relpath(path, ROOT))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    for link in [inline or reference for inline, reference in LINK.findall(text)]:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_architecture_names_every_room_and_no_other() -> None:
    """The tree in ARCHITECTURE.md equals the source tree."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = re.search(r"^```\nharness/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert drawn is not None
    named = set(re.findall(r"^    (\w+(?:\.py|/)) ", drawn[1], re.MULTILINE))
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    files = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert named == packages | files


def test_every_file_that_architecture_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text))
    assert len(named) > 20
    assert not [path for path in named if not (PACKAGE / path).is_file() and not (ROOT / path).is_file()]


LONGEST_WAY = {"passing": (20, 4, 34), "failing": (27, 6, 51)}
"""The files, climbs and returns of a check, as :mod:`benchmarks.call_path` counts them."""


def test_the_way_of_a_check_is_short() -> None:
    ways = {name: (len(path.files), path.climbs, path.returns) for name, _, path in measure(ROOT)}
    assert ways.keys() == LONGEST_WAY.keys()
    assert not {name: way for name, way in ways.items() if any(map(gt, way, LONGEST_WAY[name]))}
    assert all(way > (10, 0, 0) for way in ways.values())


def test_a_detour_makes_the_way_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "upper.py").write_text(
        "import lower\ndef check(case): return lower.run(case)\ndef name(case): return 1\n"
    )
    (tmp_path / "lower.py").write_text("import upper\ndef run(case): return upper.name(case) + upper.name(None)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    upper = importlib.import_module("upper")
    path = CallPath(tmp_path, upper.check.__code__)
    with path:
        upper.check(next(iter(load_specs([str(ROOT / "specs" / "relu.yaml")]).cases)))
    assert (path.files, path.climbs, path.returns) == (["upper.py", "lower.py"], 1, 1)


README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
SPECS = [
    block
    for block in re.findall(r"^```yaml\n(.*?)^```", README + REFERENCE, re.MULTILINE | re.DOTALL)
    if "harness: 1" in block
]


def test_readme_is_read_in_one_sitting() -> None:
    assert len(README.split()) <= 1500
    assert "```mermaid" not in README, "package indexes show no diagrams"


def test_no_link_of_the_readme_is_relative_on_a_package_index() -> None:
    """The build makes them absolute, to the address of the project."""
    address = project()["project"]["urls"]["Repository"]
    text = README
    for each in project()["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    links = [inline for inline, _ in LINK.findall(FENCED.sub("", text))]
    assert len(links) == len(LINK.findall(FENCED.sub("", README))) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    assert f"]({address}/raw/main/reports/sample/report.png)" in text
    assert f"]({address}/blob/main/docs/compare.md)" in text


def test_readme_and_reference_show_specs() -> None:
    assert len(SPECS) >= 4


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.splitlines()[1])
def test_specs_in_readme_and_reference_are_valid(spec: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    assert load_specs([str(tmp_path)], allow_import=False).cases


def keys_of_the_language() -> set[str]:
    """Every key of the schema: of a file, case, tensor, step or expectation."""
    kinds = json_schema()["$defs"].values()
    return {key for kind in [json_schema(), *kinds] for key in kind.get("properties", ())}


def test_the_reference_is_whole() -> None:
    """The page contains each key and name of the spec language as code."""
    words = {word for code in re.findall(r"`([^`]+)`", FENCED.sub("", REFERENCE)) for word in re.findall(r"\w+", code)}
    shown = words | {word for spec in SPECS for word in re.findall(r"\w+(?=:)", spec)}
    assert {"layer", "gradient_range", "layout"} <= keys_of_the_language()
    assert keys_of_the_language() - shown == set()
    assert (FUNCTIONS.keys() | set(get_args(FillKind)) | set(get_args(Layout))) - words == set()
    assert (plugins("exporters").keys() | plugins("report").keys()) - set(re.findall(r"[\w-]+", REFERENCE)) == set()


@pytest.mark.parametrize("script", [".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
