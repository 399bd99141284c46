from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import RequestError, SpecError, UsageError
from harness.spec.discovery import load_specs

SPEC = "harness: 1\nlayer: ReLU\ncases: [{name: a, inputs: {x: {shape: [2]}}}]\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Specs with targets and known failures, in a repository."""
    (tmp_path / ".git").mkdir()
    specs = tmp_path / "specs"
    (specs / "deep" / "er").mkdir(parents=True)
    for name in ("b.yaml", "a.yaml", "deep/er/c.yaml"):
        (specs / name).write_text(SPEC)
    (specs / "targets.yaml").write_text("default: [trace/torch-cpu]\n")
    (specs / "known-failures.yaml").write_text("[]\n")
    (specs / "notes.txt").write_text("no spec")
    return specs


def ids(*paths: Path) -> list[str]:
    return [case.id for case in load_specs(paths).cases]


def refusal(*paths: Path | str) -> str:
    with pytest.raises(RequestError) as caught:
        load_specs(paths)
    return str(caught.value)


def test_a_directory_is_searched_in_order_and_is_the_root(root: Path) -> None:
    specs = load_specs([root])
    assert [case.id for case in specs.cases] == ["a/a", "b/a", "deep/er/c/a"]
    assert specs.files == (root / "a.yaml", root / "b.yaml", root / "deep" / "er" / "c.yaml")
    assert (specs.root, specs.known_failures) == (root, root / "known-failures.yaml")
    assert ids(root / "deep") == ["er/c/a"]


def test_a_file_has_the_same_ids_and_lists_as_in_its_folder(root: Path) -> None:
    specs = load_specs([root / "deep" / "er" / "c.yaml"])
    assert [case.id for case in specs.cases] == ["deep/er/c/a"]
    assert specs.root.resolve() == root
    assert specs.known_failures is not None
    assert specs.known_failures.resolve() == root / "known-failures.yaml"


def test_paths_may_be_relative(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "deep")
    assert ids(Path("er/c.yaml")) == ["deep/er/c/a"]
    assert ids(Path()) == ids(Path("../deep")) == ["er/c/a"]
    assert str(load_specs(["er/c.yaml"]).cases[0].where) == "er/c.yaml:3:9"


def test_a_file_alone_has_its_folder_as_root(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "targets.yaml").write_text("default: [trace/torch-cpu]\n")
    inner = tmp_path / "inner"
    (inner / ".git").mkdir(parents=True)
    (inner / "x.yaml").write_text(SPEC)
    specs = load_specs([inner / "x.yaml"])
    assert [case.id for case in specs.cases] == ["x/a"]
    assert (specs.root, specs.known_failures) == (inner, None)


def test_a_path_in_another_encoding_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"gr\xf6\xdfe")
    folder.mkdir()
    (folder / os.fsdecode(b"\xfc.yaml")).write_text(SPEC)
    (case,) = load_specs([tmp_path]).cases
    assert case.id == r"gr\xf6\xdfe/\xfc/a"
    assert case.where.file.endswith(r"gr\xf6\xdfe/\xfc.yaml")


def test_a_path_given_twice_counts_once(root: Path) -> None:
    assert ids(root, root / "a.yaml", root) == ["a/a", "b/a", "deep/er/c/a"]


def test_several_files_of_one_root(root: Path) -> None:
    specs = load_specs([root / "b.yaml", root / "a.yaml"])
    assert [case.id for case in specs.cases] == ["b/a", "a/a"]


def test_two_roots_with_the_same_id_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text(SPEC)
    with pytest.raises(SpecError) as caught:
        load_specs([tmp_path / "one", tmp_path / "two"])
    first, second = tmp_path / "one" / "x.yaml", tmp_path / "two" / "x.yaml"
    assert str(caught.value) == (
        f"{second}:3:9: x/a: {first}:3:9 has the same id; name a folder that holds both, or rename one"
    )


def test_two_roots_with_targets_are_refused(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "z.yaml").write_text(SPEC)
    assert load_specs([root, other]).root == root
    assert load_specs([other, root]).root == root
    (other / "targets.yaml").write_text("default: [trace/torch-cpu]\n")
    with pytest.raises(UsageError, match=r"targets\.yaml and .*targets\.yaml both apply"):
        load_specs([root, other])


def test_paths_without_specs_are_refused(tmp_path: Path) -> None:
    assert refusal() == "nothing to verify; name a spec, or a folder of specs"
    assert refusal(tmp_path).startswith(f"{tmp_path}: no spec in this folder")
    (tmp_path / "targets.yaml").write_text("default: [trace/torch-cpu]\n")
    (tmp_path / "spec.yml").write_text(SPEC)
    assert "no spec in this folder" in refusal(tmp_path)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert refusal(missing) == f"{missing}: no such file or directory; name a spec, or a folder of specs"
    assert "no such file" in refusal(tmp_path / "x" / "y")
    assert "cannot be read: file name too long" in refusal(tmp_path / ("x" * 300))


def test_a_file_that_is_not_a_spec_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert refusal(pipe) == f"{pipe}: not a file; name a spec, or a folder of specs"
    assert refusal(tmp_path) == f"{pipe}:1:1: not a regular file; a spec is YAML text in a file"
    binary = tmp_path / "weights.pt"
    binary.write_bytes(bytes(range(160, 256)))
    assert refusal(binary) == f"{binary}:1:1: not UTF-8 text; a spec is YAML, saved as UTF-8"
    targets = tmp_path / "targets.yaml"
    targets.write_text("default: [trace/torch-cpu]")
    assert refusal(targets) == f"{targets}: not a spec; name its folder"


def test_cyclic_links_are_not_followed(root: Path) -> None:
    (root / "deep" / "up").symlink_to(root)
    assert ids(root) == ["a/a", "b/a", "deep/er/c/a"]
    (root / "self.yaml").symlink_to(root / "self.yaml")
    assert refusal(root) == (
        f"{root / 'self.yaml'}:1:1: cannot be read: too many levels of symbolic links; name a readable file"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(root: Path) -> None:
    (root / "a.yaml").chmod(0)
    assert "a.yaml:1:1: cannot be read: permission denied" in refusal(root)
    (root / "deep").chmod(0)
    assert "deep: cannot be read: permission denied" in refusal(root)
    (root / "deep").chmod(0o755)


def test_the_problems_of_all_files_are_reported_at_once(root: Path) -> None:
    (root / "a.yaml").write_text(SPEC.replace("ReLU", "Relu"))
    (root / "b.yaml").write_text("harness: 1\nharness: 1\n")
    (root / "targets.yaml").write_text("default: [trace/torch-cup]\ndefault: [script/torch-cpu]\n")
    (root / "known-failures.yaml").write_text("- {cases: a, targets: b, stage: cmpare, symptom: crash, reason: r}\n")
    with pytest.raises(SpecError) as caught:
        load_specs([root])
    assert str(caught.value).splitlines() == [
        f"{root / 'a.yaml'}:2:8: Relu: torch.nn has no such layer; did you mean ReLU?",
        f"{root / 'b.yaml'}:1:1: cases is missing; add `cases: [...]`",
        f"{root / 'b.yaml'}:2:1: harness: repeated key; keep one; the first is on line 1",
        f"{root / 'known-failures.yaml'}:1:33: stage: cmpare is not allowed here; did you mean compare?",
        f"{root / 'targets.yaml'}:1:11: trace/torch-cup: no runtime torch-cup; did you mean torch-cpu?",
        f"{root / 'targets.yaml'}:2:1: default: repeated key; keep one; the first is on line 1",
    ]


def test_a_repeated_key_hides_no_other_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "harness: 1\nlayer: ReLU\ncases:\n"
        "  - {name: a, inputs: {x: {shape: [2]}}, args: {inplace: true, inplace: false}, sed: 3}\n"
        "  - {name: b, inputs: {x: {shape: [2]}}, args: {inplcae: true}}\n"
    )
    assert refusal(tmp_path).splitlines() == [
        f"{tmp_path / 'a.yaml'}:4:64: inplace: repeated key; keep one; the first is on line 4",
        f"{tmp_path / 'a.yaml'}:4:81: sed: unknown key; did you mean seed?",
        f"{tmp_path / 'a.yaml'}:5:49: inplcae: ReLU has no such argument; did you mean inplace?",
    ]


def test_factories_need_allow_import(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(SPEC.replace("layer: ReLU", "factory: mine:make"))
    assert "pass --allow-import to allow it" in refusal(tmp_path)
    assert len(load_specs([tmp_path], allow_import=True).cases) == 1


def test_no_slow_library_is_imported(root: Path) -> None:
    code = (
        "import sys; from harness.spec.discovery import load_specs\n"
        "from harness.spec.targets.sets import load_target_sets\n"
        "specs = load_specs([sys.argv[1]]); load_target_sets(specs.root)\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'scipy', 'onnxscript'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", [".cache", "env", "web/node_modules", "lib/site-packages"])
def test_what_other_tools_keep_below_a_folder_is_not_read_unless_it_is_named(root: Path, folder: str) -> None:
    before = ids(root)
    theirs = root / folder / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "config.yaml").write_text("services: {}")
    if folder == "env":
        with pytest.raises(SpecError):
            load_specs([root])
        (root / "env" / "pyvenv.cfg").touch()
    assert ids(root) == before
    (theirs / "config.yaml").write_text(SPEC)
    assert ids(root) == before
    assert ids(root / folder) == ["theirs/config/a"]
