"""The artifact cache by itself: what is stored, what is exported again, what it counts, and when a disk is full."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.check.cache import artifacts, entry, is_empty
from harness.check.cache.artifacts import ArtifactCache, is_cached, open_cache
from harness.check.cache.disk_space import (
    AMPLE_BYTES,
    PROBE_BYTES,
    check_free_space,
    has_ample_space,
    is_disk_error,
    raise_if_disk_full,
)
from harness.check.cache.entry import ENTRY_FILE, CacheEntry, key, read_entry
from harness.errors import DiskFull, StageError, Unsupported
from harness.exporters import Artifact
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case, Expectation
from harness.spec.targets import parse_target

SPEC = """
harness: 1
layer: ReLU
cases:
  - {name: small, inputs: {x: {shape: [2, 3]}}}
  - {name: other, inputs: {x: {shape: [2, 4]}}}
"""
TRACE, SCRIPT = parse_target("trace/torch-cpu"), parse_target("script/torch-cpu")
FULL = OSError(errno.ENOSPC, "No space left on device")
Write = Callable[[str, str], Path]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def cases(spec: Write) -> tuple[Case, ...]:
    return load_specs([str(spec("relu.yaml", SPEC))]).cases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_cache(tmp_path / "artifacts")
    return tmp_path / "artifacts"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def writing(text: str = "model") -> Callable[[Path], Artifact]:
    def export(path: Path) -> Artifact:
        path.write_text(text, encoding="utf-8")
        return Artifact("torchscript", path, "digest", notes=("one", "two"))

    return export


def raising(error: BaseException) -> Callable[[Path], Artifact]:
    def export(path: Path) -> Artifact:
        raise error

    return export


def never(path: Path) -> Artifact:
    raise AssertionError(f"exported again to {path}")


def test_an_artifact_is_exported_once_and_comes_back_as_it_was(
    cases: tuple[Case, ...], folder: Path, scratch: Path
) -> None:
    cache = ArtifactCache(folder, scratch)
    first = cache.get(cases[0], TRACE, ".pt", writing())
    assert cache.take_counts() == (1, 0)
    assert cache.take_counts() == (0, 0)
    again = ArtifactCache(folder, scratch)
    assert again.get(cases[0], TRACE, ".pt", never) == first
    assert again.take_counts() == (0, 1)
    assert first.path.read_text(encoding="utf-8") == "model"
    assert first.path.name == "model.pt"
    assert first.path.is_relative_to(folder)
    assert not list((folder / artifacts.DRAFTS).iterdir())


def test_the_place_of_a_kept_artifact_is_known_and_begins_with_the_home_folder(
    cases: tuple[Case, ...], folder: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArtifactCache(folder, scratch)
    artifact = cache.get(cases[0], TRACE, ".pt", writing())
    monkeypatch.setenv("HOME", str(folder.parent))
    assert cache.path_of(artifact.digest) == f"~/{artifact.path.relative_to(folder.parent)}"
    monkeypatch.setenv("HOME", str(folder / "elsewhere"))
    assert cache.path_of(artifact.digest) == str(artifact.path)
    assert cache.path_of("of another file") is None
    assert cache.path_of(None) is None
    ends = ArtifactCache(None, scratch)
    assert ends.path_of(ends.get(cases[0], TRACE, ".pt", writing()).digest) is None


def test_each_case_and_each_export_has_an_entry_of_its_own(
    cases: tuple[Case, ...], folder: Path, scratch: Path
) -> None:
    cache = ArtifactCache(folder, scratch)
    checks = [(case, target) for case in cases for target in (TRACE, SCRIPT)]
    paths = {cache.get(case, target, ".pt", writing()).path for case, target in checks}
    assert len(paths) == 4
    assert cache.take_counts() == (4, 0)
    assert {path.parent.name for path in paths} == {key(case, target) for case, target in checks}


def test_without_a_folder_nothing_is_stored(cases: tuple[Case, ...], scratch: Path) -> None:
    cache = ArtifactCache(None, scratch)
    for _ in range(2):
        assert cache.get(cases[0], TRACE, ".pt", writing()).path.is_relative_to(scratch)
    assert cache.take_counts() == (2, 0)


def test_a_cache_knows_what_it_has(cases: tuple[Case, ...], folder: Path, scratch: Path) -> None:
    assert is_empty(None)
    assert is_empty(folder)
    assert not is_cached(folder, cases[0], TRACE)
    ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", writing())
    assert not is_empty(folder)
    assert is_cached(folder, cases[0], TRACE)
    assert not is_cached(folder, cases[0], SCRIPT)
    assert not is_cached(None, cases[0], TRACE)


@pytest.mark.parametrize("error", [Unsupported("no such layer"), ValueError("wrong shape"), StageError("no module")])
def test_a_refusal_is_stored_and_raised_again(
    cases: tuple[Case, ...], folder: Path, scratch: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, AMPLE_BYTES + 1))
    texts = []
    for export in (raising(error), never):
        with pytest.raises(StageError) as raised:
            ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", export)
        texts.append((type(raised.value), str(raised.value), raised.value.from_library))
    assert texts[0] == texts[1]
    assert texts[0][0] is (Unsupported if isinstance(error, Unsupported) else StageError)
    assert texts[0][2] == isinstance(error, ValueError)


@pytest.mark.parametrize(
    "error", [MemoryError("no"), ImportError("no onnxscript"), RuntimeError("can't start new thread"), SystemExit(3)]
)
def test_what_another_day_may_answer_otherwise_is_not_stored(
    cases: tuple[Case, ...], folder: Path, scratch: Path, error: BaseException
) -> None:
    cache = ArtifactCache(folder, scratch)
    with pytest.raises(type(error)):
        cache.get(cases[0], TRACE, ".pt", raising(error))
    cache.get(cases[0], TRACE, ".pt", writing())
    assert cache.take_counts() == (2, 0)


def test_a_refusal_on_a_nearly_full_disk_is_not_stored(
    cases: tuple[Case, ...], folder: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, AMPLE_BYTES))
    with pytest.raises(ValueError, match="wrong"):
        ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", raising(ValueError("wrong")))
    assert is_empty(folder)


def test_a_failing_export_leaves_state_but_a_refusal_of_most_exporters_does_not(
    cases: tuple[Case, ...], folder: Path, scratch: Path
) -> None:
    refusal = Unsupported("no kernel", from_library=True)
    for target, error, left in ((TRACE, refusal, False), (SCRIPT, refusal, True), (TRACE, MemoryError(), True)):
        cache = ArtifactCache(folder / type(error).__name__, scratch)
        cache.get(cases[0], target, ".pt", writing())
        assert not cache.history.left_state
        with pytest.raises(type(error)):
            cache.get(cases[1], target, ".pt", raising(error))
        assert cache.history.left_state is left


def test_an_error_in_the_words_of_eager_torch_leaves_no_state(
    cases: tuple[Case, ...], folder: Path, scratch: Path
) -> None:
    refused = replace(cases[0], expect=Expectation(raises="kernel size"))
    for text, left in (("bad kernel size", False), ("another error", True)):
        cache = ArtifactCache(folder / text, scratch)
        with pytest.raises(StageError, match=text):
            cache.get(refused, TRACE, ".pt", raising(ValueError(text)))
        assert cache.history.left_state is left


def test_exports_that_are_evidence_do_not_count(cases: tuple[Case, ...], folder: Path, scratch: Path) -> None:
    cache = ArtifactCache(folder, scratch)
    cache.without_counting().get(cases[0], TRACE, ".pt", writing())
    assert cache.take_counts() == (0, 0)
    cache.get(cases[0], TRACE, ".pt", never)
    assert cache.take_counts() == (0, 1)


def changed(text: str) -> Callable[[Path], object]:
    return lambda entry: next(entry.glob("model.*")).write_text(text, encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "another model": changed("other"),
    "no model": lambda entry: next(entry.glob("model.*")).unlink(),
    "no note": lambda entry: (entry / ENTRY_FILE).unlink(),
    "another note": lambda entry: (entry / ENTRY_FILE).write_text(
        (entry / ENTRY_FILE).read_text(encoding="utf-8").replace("digest", "digits"), encoding="utf-8"
    ),
    "a list": lambda entry: (entry / ENTRY_FILE).write_text("[]", encoding="utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_exported_again_and_replaced(
    cases: tuple[Case, ...], folder: Path, scratch: Path, damage: str
) -> None:
    path = ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", writing()).path
    DAMAGES[damage](path.parent)
    assert read_entry(path.parent) is None
    cache = ArtifactCache(folder, scratch)
    assert cache.get(cases[0], TRACE, ".pt", writing("again")).path == path
    assert path.read_text(encoding="utf-8") == "again"
    assert cache.get(cases[0], TRACE, ".pt", never).path == path
    assert cache.take_counts() == (1, 1)
    assert not list((folder / artifacts.DRAFTS).iterdir())


def test_a_damaged_entry_is_replaced_under_a_lock_inside_the_cache(
    cases: tuple[Case, ...], folder: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", writing()).path
    path.unlink()
    locks: list[Path] = []

    def lock(place: Path) -> Any:
        locks.append(place)
        return nullcontext()

    monkeypatch.setattr("filelock.FileLock", lock)
    ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", writing())
    assert [lock.parent for lock in locks] == [folder]


def test_of_two_runs_that_export_at_once_the_first_entry_stays(
    cases: tuple[Case, ...], folder: Path, scratch: Path
) -> None:
    def slow(path: Path) -> Artifact:
        ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", writing("first"))
        return writing("second")(path)

    artifact = ArtifactCache(folder, scratch).get(cases[0], TRACE, ".pt", slow)
    assert artifact.path.read_text(encoding="utf-8") == "first"
    assert not list((folder / artifacts.DRAFTS).iterdir())


def test_drafts_of_killed_runs_are_removed_after_a_day(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts, now = folder / artifacts.DRAFTS, float(round(time.time()))
    monkeypatch.setattr("harness.check.cache.artifacts.time.time", lambda: now)
    for name, age in (("old", 86400.5), ("young", 86400.0)):
        (drafts / name).mkdir()
        os.utime(drafts / name, (now - age,) * 2)
    open_cache(folder)
    assert [draft.name for draft in drafts.iterdir()] == ["young"]


def test_an_entry_without_an_artifact_raises_its_refusal() -> None:
    with pytest.raises(Unsupported, match="no such layer") as raised:
        CacheEntry(None, "no such layer", unsupported=True, output=()).artifact_or_raise()
    assert raised.value.from_library, "the exporter refused, unless it is known that harness did"


# The key


@pytest.fixture
def _fresh_code() -> Iterator[None]:
    entry.exporting_code.cache_clear()
    yield
    entry.exporting_code.cache_clear()


@pytest.mark.usefixtures("_fresh_code")
def test_the_exporting_code_is_that_of_harness_and_of_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(entry.__file__).parents[2]
    files = {
        file for folder in ("exporters", "fixes", "model", "transforms") for file in (package / folder).glob("*.py")
    }
    files |= {package / "spec/language/inputs/fills.py", package / "check/stages.py"}

    def expected(*more: Path) -> str:
        return hashlib.sha256(b"".join(file.read_bytes() for file in sorted({*files, *more}))).hexdigest()

    def with_plugins(**modules: str) -> str:
        points = {f"harness.{group}": [EntryPoint("p", f"{module}:X", "g")] for group, module in modules.items()}
        monkeypatch.setattr(entry, "entry_points", lambda group: points.get(group, []))
        entry.exporting_code.cache_clear()
        return entry.exporting_code().rpartition(" ")[2]

    assert with_plugins() == with_plugins(fixes="no_such_module_anywhere") == expected()
    assert with_plugins(exporters="json") == expected(Path(json.__file__))
    assert with_plugins(fixes="json", exporters="csv") == expected(Path(json.__file__), Path(csv.__file__))
    versions = entry.exporting_code().split(" ")[:-1]
    assert [each.partition("=")[0] for each in versions] == list(entry.EXPORT_LIBRARIES)


def test_only_a_compiled_artifact_depends_on_the_cpu(cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = parse_target("aoti/aoti-cpu")
    found = []
    for cpu in ("avx2", "avx512"):
        monkeypatch.setattr(entry, "cpu_signature", lambda cpu=cpu: cpu)
        found.append([key(cases[0], target) for target in (TRACE, SCRIPT, compiled)])
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


def test_a_key_holds_all_that_an_export_depends_on(cases: tuple[Case, ...]) -> None:
    case = cases[0]
    changes: list[dict[str, Any]] = [
        {"mode": "train"},
        {"dtype": "float16"},
        {"seed": 7},
        {"dynamic": {"x": {0: "N"}}},
        {"inputs": cases[1].inputs},
    ]
    others = [replace(case, **change) for change in changes]
    assert len({key(each, TRACE) for each in (case, *others)}) == 6
    assert key(replace(case, id="another", about="text"), TRACE) == key(case, TRACE)
    targets = ("onnx-dynamo@18/ort-cpu", "onnx-dynamo@20/ort-cpu", "onnx-dynamo@18+fixes/ort-cpu")
    assert len({key(case, parse_target(target)) for target in targets}) == 3
    assert key(case, parse_target("onnx-dynamo@18/openvino")) == key(case, parse_target(targets[0]))


# A full disk


def test_a_disk_is_full_where_less_is_free_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 2 * PROBE_BYTES))
    check_free_space(tmp_path)
    check_free_space(tmp_path, 2 * PROBE_BYTES)
    with pytest.raises(DiskFull, match="No space left on device; make room"):
        check_free_space(tmp_path, 2 * PROBE_BYTES + 1)
    check_free_space(tmp_path / "removed", 2 * PROBE_BYTES + 1)


@pytest.mark.parametrize(("free", "full"), [(2**20, False), (2**20 - 1, True)])
def test_a_mebibyte_must_be_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, full: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    with pytest.raises(DiskFull) if full else nullcontext():
        check_free_space(tmp_path)


def test_a_limit_that_the_code_under_test_set_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr("harness.check.cache.disk_space.resource.setrlimit", refuse)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    check_free_space(tmp_path)


@pytest.mark.parametrize(("free", "ample"), [(2**30, False), (2**30 + 1, True), (2**20, False)])
def test_a_gibibyte_is_ample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, ample: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    assert has_ample_space(tmp_path) is ample


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_errors_of_a_disk_are_told_from_others_also_as_a_cause(tmp_path: Path, number: int) -> None:
    full, wrapped = OSError(number, os.strerror(number)), RuntimeError("cannot write")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        assert is_disk_error(error)
        with pytest.raises(DiskFull, match=os.strerror(number)):
            raise_if_disk_full(error, tmp_path)
    for other in (OSError(errno.ENOENT, "no such file"), OSError("no number"), ValueError("no disk")):
        assert not is_disk_error(other)
        raise_if_disk_full(other, tmp_path)


@pytest.mark.parametrize(
    ("error", "free", "full"),
    [
        (FULL, PROBE_BYTES + 200, False),
        (FULL, PROBE_BYTES + 199, True),
        (FULL, PROBE_BYTES, True),
        (ValueError("no disk"), PROBE_BYTES + 199, False),
        (ValueError("no disk"), PROBE_BYTES - 1, True),
    ],
)
def test_a_disk_error_of_the_users_code_counts_where_the_model_does_not_fit_twice(
    cases: tuple[Case, ...], scratch: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free: int, full: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    cache = ArtifactCache(None, scratch)
    assert cache.model_size == 0
    cache.model_size = 100
    with pytest.raises(DiskFull if full else type(error)):
        cache.get(cases[0], TRACE, ".pt", raising(error))
