"""A library that is missing or too old is reported in one line before anything runs, not by a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import harness
from harness import environment
from harness.errors import RuntimeMissing
from tests.recorded_models import relu

ROOT = Path(__file__).resolve().parent.parent
Install = Callable[[Mapping[str, str | None]], None]
REQUIREMENTS = [
    "click>=8.1",
    "pebble>=5.1",
    "onnxruntime>=1.23; extra == 'cpu'",
    "torch>=2.9; extra == 'cpu'",
    "pytest>=8; extra == 'dev'",
]
SUPPORTED: Mapping[str, str | None] = {
    "click": "8.4.0",
    "pebble": "5.2",
    "torch": "2.13.0+cpu",
    "onnxruntime": "1.32.0",
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``installed({"click": "8.0.4"})``: pretend that these versions, and supported ones of the rest, are installed."""

    def pretend(versions: Mapping[str, str | None]) -> None:
        installed = {**SUPPORTED, **versions}
        monkeypatch.setattr(environment, "_declared_requirements", lambda: REQUIREMENTS)
        monkeypatch.setattr(environment, "installed_version", installed.get)
        environment.dependency_problem.cache_clear()

    yield pretend
    environment.dependency_problem.cache_clear()


@pytest.mark.parametrize(
    ("versions", "line"),
    [
        ({"click": "8.0.4"}, "click 8.0.4 is too old for harness; install with: pip install 'click>=8.1'"),
        ({"pebble": None}, "pebble is not installed; install with: pip install 'pebble>=5.1'"),
        (
            {"torch": "2.6.0+cu124", "click": "8.0.4"},
            (
                "click 8.0.4 is too old for harness, torch 2.6.0+cu124 is too old for harness; "
                "install with: pip install 'click>=8.1' 'torch>=2.9'"
            ),
        ),
        (
            {"onnxruntime": None, "onnxruntime-gpu": "1.20.1"},
            "onnxruntime-gpu 1.20.1 is too old for harness; install with: pip install 'onnxruntime-gpu>=1.23'",
        ),
    ],
)
def test_missing_and_too_old_libraries_are_one_line(installed: Install, versions: Mapping[str, str], line: str) -> None:
    installed(versions)
    assert environment.dependency_problem() == line
    with pytest.raises(RuntimeMissing) as caught:
        environment.require_dependencies(torch=True)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "versions",
    [{}, {"torch": None}, {"torch": "2.9.0a0+gitdeadbee"}, {"onnxruntime": None}, {"torch": "of today"}],
    ids=str,
)
def test_supported_and_optional_libraries_are_no_problem(installed: Install, versions: Mapping[str, str]) -> None:
    installed(versions)
    assert environment.dependency_problem() is None


def test_an_old_torch_is_no_problem_if_torch_is_not_imported(installed: Install) -> None:
    installed({"torch": "2.6.0"})
    assert environment.dependency_problem(torch=False) is None
    assert environment.dependency_problem(torch=True) is not None


def test_this_environment_has_no_problem() -> None:
    environment.dependency_problem.cache_clear()
    assert environment.dependency_problem() is None
    assert environment.installed_version(environment.DISTRIBUTION) is not None, (
        "harness is not installed, so nothing was checked"
    )


def run_harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``harness`` with ``folder`` on the path before all installed packages."""
    start = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; sys.argv[:] = ['harness', {arguments!r}[0]];"
    code = f"{start} sys.argv += {list(arguments[1:])!r}; from harness.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def install(folder: Path, name: str, version: str, source: str) -> None:
    """Write a distribution that has a module of the same name."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    (folder / f"{name}-{version}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")


def test_a_library_too_old_to_be_imported_is_one_line(tmp_path: Path) -> None:
    install(tmp_path, "click", "8.0.4", "")
    done = run_harness(tmp_path, "--help")
    assert done.stderr == "click 8.0.4 is too old for harness; install with: pip install 'click>=8.1'\n"
    assert (done.returncode, done.stdout) == (3, "")


def test_a_library_new_enough_that_does_not_load_keeps_its_own_error(tmp_path: Path) -> None:
    install(tmp_path, "click", "8.9", "raise ImportError('its own trouble')")
    done = run_harness(tmp_path, "--help")
    assert "ImportError: its own trouble" in done.stderr
    assert done.returncode == 1


def test_a_run_reports_it_before_anything_runs(tmp_path: Path) -> None:
    install(tmp_path, "pebble", "5.0.7", "class ProcessExpired: ...\nclass ProcessPool: ...\nclass CONSTS: ...\n")
    relu(tmp_path / "suite" / "right")
    done = run_harness(tmp_path, "run", "suite", "--targets", "reference")
    assert done.stderr == "pebble 5.0.7 is too old for harness; install with: pip install 'pebble>=5.1'\n"
    assert done.returncode == 3
    assert not (tmp_path / "reports" / "latest" / "report.json").exists()


# What to install


TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    "action.yml",
    ".github",
    "docs",
    "examples",
    "harness",
    "benchmarks",
)
NOT_ON_AN_INDEX = re.compile(
    r"pip install[^\n`]*(?<!/)\bparity-harness\b(?!\[[a-z]*\] @ git\+)|parity-harness\[[^\]]*\](?! @ git\+)"
)
URL = re.compile(r"https://[^\s'\"`)]*/parity-harness\b")


def texts() -> Iterator[tuple[Path, str]]:
    """The files with text or messages for users."""
    paths = [
        path for name in TEXTS for path in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else (ROOT / name,))
    ]
    for path in paths:
        if path.suffix in {".md", ".py", ".yml", ".yaml", ".cff", ".html", ".js"}:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def test_nobody_is_told_to_install_a_package_that_is_on_no_index() -> None:
    assert NOT_ON_AN_INDEX.search("pip install 'parity-harness[cpu]'")
    assert NOT_ON_AN_INDEX.search("pip install parity-harness")
    assert not NOT_ON_AN_INDEX.search("pip install 'parity-harness[cpu] @ git+https://a/b' or pip install '.[cpu]'")
    wrong = [str(path) for path, text in texts() if NOT_ON_AN_INDEX.search(text)]
    # What was measured with its extra, in tables of environments.
    assert set(wrong) <= {"benchmarks/versions/report.py"}


def test_the_address_of_the_repository_stands_in_one_place() -> None:
    """The texts for users name no address, because the one of the project leads nowhere until it is published."""
    address = project()["urls"]["Repository"]
    assert [str(path) for path, text in texts() if URL.search(text)] == []
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    places = [number for number, line in enumerate(lines) if URL.search(line)]
    assert all(address in lines[number] for number in places)
    assert places[-1] - places[0] < 15, "they stand together"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (harness.__version__, project()["license"])
    assert citation["authors"] == project()["authors"]


def test_a_missing_library_is_named_with_the_versions_that_harness_takes(installed: Install) -> None:
    installed({})
    assert environment.install_command("torch", "other") == "pip install 'torch>=2.9' other"
