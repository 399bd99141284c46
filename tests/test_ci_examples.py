"""The files for CI servers: each calls harness with valid arguments, as its shell would read them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from harness.cli import cli
from harness.report.junit import JUnitReport
from tests.conftest import Call

ROOT = Path(__file__).resolve().parent.parent
INPUT = re.compile(r"\$\{\{ *inputs\.([\w-]+) *\}\}")
CallsOf = Callable[..., list[list[str]]]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture
def calls_of(tmp_path: Path) -> CallsOf:
    """``calls_of(script, **variables)``: return the arguments of each call of harness in a bash script."""
    log = tmp_path / "log"
    harness = tmp_path / "bin" / "harness"
    harness.parent.mkdir()
    harness.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" "" >> {shlex.quote(str(log))}\n')
    harness.chmod(0o755)

    def call(script: str, **variables: str) -> list[list[str]]:
        (tmp_path / "specs").mkdir(exist_ok=True)
        log.write_text("")
        command = ["/bin/bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
        environment = {"PATH": f"{harness.parent}:/usr/bin:/bin", **variables}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        return [words.split("\n") for words in log.read_text().removesuffix("\n").split("\n\n") if words]

    return call


def parsed(words: list[str]) -> dict[str, Any]:
    """Parse the arguments with harness's command line and return the options; raise for an unknown option."""
    command = cli.commands[words[0]]
    assert isinstance(command, click.Command)
    return command.make_context(words[0], [word for word in words[1:] if word]).params


# The composite action


ACTION = read("action.yml")


def steps(name: str = "") -> Iterator[Mapping[str, Any]]:
    yield from (step for step in ACTION["runs"]["steps"] if step.get("name", "") == name or not name)


def variables(**inputs: str) -> dict[str, str]:
    """Return the environment of the step Verify for a workflow with these inputs."""
    values = {name: each["default"] for name, each in ACTION["inputs"].items()} | inputs
    (step,) = steps("Verify")
    return {name: INPUT.sub(lambda match: values[match[1]], text) for name, text in step["env"].items()}


def verifying() -> str:
    (step,) = steps("Verify")
    return str(step["run"])


def test_the_action_verifies_the_specs_by_default(calls_of: CallsOf) -> None:
    (words,) = calls_of(verifying(), **variables())
    options = parsed(words)
    assert words[0] == "run"
    assert (options["paths"], options["targets"], options["latency"]) == (("specs/",), (), False)
    assert {"json", "html", "junit", "github"} <= set(options["formats"])
    assert options["report_dir"] == Path("parity-report")


def test_the_action_passes_on_the_inputs_of_a_workflow(calls_of: CallsOf) -> None:
    inputs = {"paths": "specs/a.yaml specs/b.yaml", "targets": "onnx-*/ort-cpu", "options": "--require ort-cpu -k *"}
    (words,) = calls_of(verifying(), **variables(**inputs))
    options = parsed(words)
    assert options["paths"] == ("specs/a.yaml", "specs/b.yaml")
    assert options["targets"] == (("onnx-*/ort-cpu",),)
    assert (options["require"], options["keywords"]) == ((("ort-cpu",),), ("*",))


def test_no_input_of_a_workflow_becomes_script(calls_of: CallsOf, tmp_path: Path) -> None:
    (words,) = calls_of(verifying(), **variables(targets='"; touch ran; $(touch ran) `touch ran`'))
    assert not (tmp_path / "ran").exists()
    assert words[3] == '"; touch ran; $(touch ran) `touch ran`'
    assert not any(INPUT.search(step.get("run", "")) for step in steps())


def test_every_input_of_the_action_is_used_and_described() -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == ACTION["inputs"].keys()
    assert all(each["description"].endswith(".") and "default" in each for each in ACTION["inputs"].values())
    assert all("shell" in step for step in steps() if "run" in step)


def test_the_action_uploads_the_report_even_of_a_run_that_fails() -> None:
    (upload,) = (step for step in steps() if step.get("uses", "").startswith("actions/upload-artifact"))
    assert "!cancelled()" in upload["if"]
    assert upload["with"]["path"] == "${{ inputs.report-dir }}"


# Other files to copy


def test_the_workflow_of_github_calls_harness_as_it_can_be_called(calls_of: CallsOf) -> None:
    jobs = read(".github/workflows/parity.yml")["jobs"]
    scripts = [step["run"] for job in jobs.values() for step in job["steps"] if "harness run" in step.get("run", "")]
    ((words,),) = map(calls_of, scripts)
    assert parsed(words)["require"] == (("ort-cpu",),)


@pytest.mark.parametrize(("nodes", "shard"), [({}, "1/1"), ({"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "4"}, "2/4")])
def test_the_example_for_gitlab_shards_and_keeps_the_file_that_junit_is_written_to(
    calls_of: CallsOf, nodes: dict[str, str], shard: str
) -> None:
    job = read("examples/gitlab-ci.yml")["parity"]
    (words,) = calls_of("\n".join(job["script"]), **nodes)
    options = parsed(words)
    assert options["shard"] == shard
    assert "junit" in options["formats"]
    assert f"{options['report_dir']}/report{JUnitReport.suffix}" == job["artifacts"]["reports"]["junit"].replace(
        "*", nodes.get("CI_NODE_INDEX", "1")
    )
    assert job["artifacts"]["when"] == "always"


def test_all_examples_run_the_same_gate(calls_of: CallsOf) -> None:
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    workflow = read(".github/workflows/parity.yml")["jobs"]["verify"]["steps"]
    scripts = {
        "page": re.findall(r"^harness run .*--report-dir report .*$", page, re.MULTILINE)[0],
        "workflow": next(step["run"] for step in workflow if step.get("name") == "Verify"),
        "gitlab": "\n".join(read("examples/gitlab-ci.yml")["parity"]["script"]),
    }
    calls = {name: parsed(calls_of(script)[0]) for name, script in scripts.items()}
    calls["action"] = parsed(calls_of(verifying(), **variables())[0])
    for name, options in calls.items():
        assert (options["paths"], options["require"]) == (("specs/",), (("ort-cpu",),)), name
        assert (options["latency"], options["lf"], options["maxfail"]) == (False, False, None), name
        assert {"json", "md", "html", "junit"} <= {*options["formats"]}, name


RELU = """harness: 1
layer: ReLU
cases:
  - {name: a, inputs: {x: {shape: [2]}}}
  - {name: b, inputs: {x: {shape: [3]}}}
"""
TARGETS = "default: [onnx-torchscript@17/ort-cpu]\n"


@pytest.fixture
def specs(spec: Callable[[str, str], Path]) -> None:
    spec("relu.yaml", RELU)
    spec("targets.yaml", TARGETS)


def in_turn(harness: Call, calls: list[list[str]]) -> list[int]:
    return [harness(*filter(None, words)).code for words in calls]


@pytest.mark.usefixtures("specs")
def test_the_parts_of_gitlab_write_apart_and_are_merged(harness: Call, calls_of: CallsOf, here: Path) -> None:
    jobs = read("examples/gitlab-ci.yml")
    for index in ("1", "2"):
        nodes = {"CI_NODE_INDEX": index, "CI_NODE_TOTAL": "2"}
        assert in_turn(harness, calls_of("\n".join(jobs["parity"]["script"]), **nodes)) == [0]
    assert jobs["parity-report"]["needs"] == ["parity"]
    assert in_turn(harness, calls_of("\n".join(jobs["parity-report"]["script"]))) == [0]
    whole = json.loads((here / "report/all/report.json").read_text(encoding="utf-8"))
    assert sorted(row["case"] for row in whole["results"]) == ["relu/a", "relu/b"]


@pytest.mark.usefixtures("specs")
def test_the_parts_of_the_action_are_merged(harness: Call, calls_of: CallsOf) -> None:
    for part in ("1/2", "2/2"):
        folder = part[0]
        assert in_turn(harness, calls_of(verifying(), **variables(shard=part, **{"report-dir": folder}))) == [0]
    assert harness("merge", "1/report.json", "2/report.json").code == 0


@pytest.mark.usefixtures("specs")
def test_the_workflow_fails_when_a_check_does(
    harness: Call, calls_of: CallsOf, spec: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(here / "summary.md"))
    steps = read(".github/workflows/parity.yml")["jobs"]["verify"]["steps"]
    calls = calls_of(next(step["run"] for step in steps if step.get("name") == "Verify"))
    assert in_turn(harness, calls) == [0]
    spec("relu.yaml", RELU.replace("{shape: [2]}}}", "{shape: [2]}}, expect: {range: [1, 2]}}"))
    assert in_turn(harness, calls) == [1]
    assert "relu/a" in (here / "summary.md").read_text(encoding="utf-8")


def test_an_option_that_there_is_not_would_be_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["run", "specs/", "--no-such-option"])


# The hook for pre-commit


(HOOK,) = read(".pre-commit-hooks.yaml")


def test_the_hook_takes_specs_of_any_folder_and_leaves_other_yaml_alone(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    command, *words = shlex.split(HOOK["entry"])
    assert (command, HOOK["types"], "files" in HOOK) == ("harness", ["yaml"], False)
    spec("relu.yaml", RELU)
    for folder in ("nets", "nets/deep"):
        spec(f"../{folder}/relu.yaml", RELU)
        spec(f"../{folder}/targets.yaml", TARGETS)
    spec("../.github/workflows/ci.yaml", "jobs: {harness: 1}\n")
    spec("../config.yaml", "a: [\n")
    spec("../targets.yaml", "of: another tool\n")
    others = [".github/workflows/ci.yaml", "config.yaml"]
    assert harness(*words, *others).out == "no specs among these files\n"
    ran = harness(*words, *others, "specs/relu.yaml", "nets/relu.yaml", "nets/deep/relu.yaml")
    assert (ran.code, ran.out.count("2 cases in 1 file")) == (2, 0), "targets.yaml at the root is read for specs/"
    (here / "targets.yaml").unlink()
    ran = harness(*words, *others, "specs/relu.yaml", "nets/relu.yaml", "nets/deep/relu.yaml")
    assert (ran.code, ran.out.count("2 cases in 1 file")) == (0, 3), ran.err
    spec("wrong.yaml", RELU.replace("shape: [2]", "shap: [2]"))
    spec("../nets/targets.yaml", "default: [trace/none]\n")
    refused = harness(*words, *others, "specs/wrong.yaml", "nets/targets.yaml")
    assert refused.code == 2
    assert [line.partition(" ")[0] for line in refused.err.splitlines()] == [
        "nets/targets.yaml:1:11:",
        "specs/wrong.yaml:4:28:",
    ]


def test_the_hook_takes_specs_with_a_factory_if_its_arguments_allow_them(
    harness: Call, spec: Callable[[str, str], Path]
) -> None:
    _, *words = shlex.split(HOOK["entry"])
    factory = RELU.replace("layer: ReLU", "factory: net:Net")
    path = str(spec("net.yaml", factory).relative_to(Path.cwd()))
    refused = harness(*words, path)
    assert (refused.code, "pass --allow-import to allow it" in refused.err) == (2, True)
    assert harness(*words, "--allow-import", path).code == 0, "nothing is imported: there is no net.py"


def test_the_hook_takes_every_shipped_spec(harness: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    _, *words = shlex.split(HOOK["entry"])
    monkeypatch.chdir(ROOT)
    every = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "specs").rglob("*.yaml"))
    assert len(every) > 10
    assert harness(*words, *every[:5], "specs/targets.yaml").code == 0
