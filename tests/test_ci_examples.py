"""The files for CI servers: each calls harness with valid arguments, as its shell would read them."""

from __future__ import annotations

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
    assert job["artifacts"]["reports"]["junit"] == f"{options['report_dir']}/report{JUnitReport.suffix}"
    assert job["artifacts"]["when"] == "always"


def test_an_option_that_there_is_not_would_be_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["run", "specs/", "--no-such-option"])


# The hook for pre-commit


(HOOK,) = read(".pre-commit-hooks.yaml")


def hooked() -> list[str]:
    """Return the shipped specs that pre-commit passes to the hook."""
    every = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "specs").rglob("*.yaml"))
    return [path for path in every if re.search(HOOK["files"], path) and not re.search(HOOK["exclude"], path)]


def test_the_hook_gets_only_specs() -> None:
    assert len(hooked()) > 10
    assert not {"specs/targets.yaml", "specs/known-failures.yaml"} & set(hooked())


def test_the_hook_passes_what_is_right_and_refuses_what_is_wrong(
    harness: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *words = shlex.split(HOOK["entry"])
    assert command == "harness"
    wrong = here / "specs" / "wrong.yaml"
    wrong.parent.mkdir()
    wrong.write_text("harness: 1\nlayer: ReLU\ncases:\n  - {name: a, inputs: {x: {shap: [1]}}}\n")
    refused = harness(*words, "specs/wrong.yaml")
    assert refused.code == 2
    assert "specs/wrong.yaml:4:" in refused.err
    monkeypatch.chdir(ROOT)
    assert harness(*words, *hooked()[:5]).code == 0
