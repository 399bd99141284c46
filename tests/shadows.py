"""A folder with files named like modules that Python and harness import, which record when they are run."""

from __future__ import annotations

from pathlib import Path

LIBRARIES = (
    *("numpy", "yaml", "torch", "psutil", "pydantic", "scipy", "pebble", "click", "filelock", "ml_dtypes", "tract"),
    *("onnxscript", "onnxruntime", "onnx_ir", "tabulate", "rich", "platformdirs", "packaging", "sympy", "openvino"),
)
STANDARD = (
    *("queue", "random", "types", "token", "copy", "select", "selectors", "statistics", "contextlib", "json", "uuid"),
    *("logging", "socket", "subprocess", "tempfile", "threading", "shutil", "signal", "struct", "pickle", "typing"),
    *("functools", "dataclasses", "decimal", "inspect", "csv", "platform", "zipfile", "hashlib", "warnings", "pdb"),
)
PACKAGES = ("multiprocessing", "onnx", "importlib", "concurrent", "unittest", "ctypes", "email")
OF_PYTHON = {"importlib", "contextlib", "warnings", "types", "traceback", "functools"}
"""What Python itself imports for ``python -m`` before harness; each release imports some of these."""
KINDS = ("runtimes", "layers", "exporters", "fixes", "report", "compare.metrics")


def shadow(folder: Path, names: tuple[str, ...] = (*LIBRARIES, *STANDARD, *PACKAGES), *, but: frozenset[str]) -> Path:
    """Write ``names`` without ``but`` into ``folder``, and a distribution with plugins; return the record file."""
    record = folder / "RAN"
    code = f"with open({str(record)!r}, 'a') as file:\n    file.write(__name__ + '\\n')\n"
    for name in {*names} - but:
        if name in PACKAGES:
            (folder / name).mkdir()
        file = folder / name / "__init__.py" if name in PACKAGES else folder / f"{name}.py"
        file.write_text(code, encoding="utf-8")
    (folder / "of_a_plugin.py").write_text(code + "added = ()\n", encoding="utf-8")
    about = folder / "x-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"[harness.{kind}]\nx = of_a_plugin:added\n" for kind in KINDS)
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    return record


def run_there(record: Path) -> list[str]:
    """The names of the modules that were run."""
    return sorted({*record.read_text(encoding="utf-8").split()}) if record.exists() else []
