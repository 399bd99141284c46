"""A bundle with one case, and what a run does with its manifest before anything is loaded.

The seal of a manifest detects every accidental change. Here the manifest is sealed again after the change, as an
attacker would do, so that all other rules are tested.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.models import model, tensor
from harness.check.recorded.packed import PackedCase, check_external_data
from harness.plan import plan
from harness.result import Result, result_from_json, to_json
from harness.spec.bundle.entries import CaseEntry
from harness.spec.bundle.reader import FORMAT, MANIFEST_FILE, manifest_seal
from harness.spec.discovery import load_specs
from harness.spec.known_failures import load_known_failures

EXPORT, MODEL, TENSOR, KNOWN = "onnx-dynamo@23", "onnx/test_a/model.onnx", "data/a.pb", "known-failures.yaml"
TO_BE_SEALED = "0" * 64
FILES = {MODEL: model(), TENSOR: tensor(), KNOWN: b"[]\n"}


@cache
def material() -> list[bytes]:
    """Return the manifest, without a valid seal."""
    manifest = {
        "format": FORMAT,
        "seal": TO_BE_SEALED,
        "versions": {"torch": "2.13.0", "onnx": "1.23.2"},
        "targets": [f"{EXPORT}/ort-cpu", "trace/torch-cpu"],
        "files": {name: sha256(content).hexdigest() for name, content in FILES.items()},
        "cases": [CaseEntry.model_validate(_case()).model_dump(mode="json")],
    }
    return [json.dumps(manifest).encode()]


def _case() -> dict[str, Any]:
    recorded = {"x": TENSOR}
    return {
        "id": "a/b",
        "about": "A sum.",
        "where": {"file": "a.yaml", "line": 3, "column": 5},
        "inputs": [{"label": "x", "dtype": "float32", "shape": [2, 3]}],
        "rounds": [
            {
                "inputs": recorded,
                "eager": {"output_0": TENSOR},
                "float64_reference": None,
                "magnitudes": [TENSOR],
                "undefined": [None],
            }
        ],
        "expect": {"range": [0.0, 9.0], "formula": "x + 1", "gradient": {"x": "1"}, "names": {"k": 2}, "arrays": {}},
        "findings": to_json(Result("a/b", "eager", "passed")),
        "exports": {
            EXPORT: {
                "format": "onnx",
                "path": MODEL,
                "digest": sha256(model()).hexdigest(),
                "opset": 17,
                "notes": ["a note"],
                "tolerance": {"rule": {"scaled": 4}, "by_output": {"0": "exact"}},
            }
        },
        "not_packed": {"trace": to_json(Result("a/b", "trace/torch-cpu", "error", "export", "exception", "no"))},
    }


def use(folder: Path, content: bytes) -> object:
    """Read and plan the bundle with this manifest, and open its cases as a worker would."""
    root = folder / "bundle"
    for name, data in FILES.items():
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    (root / MANIFEST_FILE).write_bytes(_sealed(content))
    specs = load_specs([root])
    load_known_failures(specs.known_failures)
    check_external_data(specs.cases)
    work = plan(specs.cases, specs.target_sets.select(), (), None).jobs
    return [_opened(PackedCase(case)) for case, _ in work]


def _opened(prepared: PackedCase) -> object:
    tolerances = [prepared.tolerance(export.opset) for export in prepared.entry.exports.values()]
    results = [result_from_json(row) for row in prepared.entry.not_packed.values()]
    return prepared.references, prepared.expected, prepared.eager_findings, tolerances, results


def _sealed(content: bytes) -> bytes:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(manifest, dict) or manifest.get("seal") != TO_BE_SEALED:
        return content
    return json.dumps(manifest | {"seal": manifest_seal(manifest)}).encode()
