"""The model files that a spec names, as its model or under test, and Python files with a factory."""

from __future__ import annotations

from collections.abc import Iterator

from harness.errors import Location, Problem, UsageError
from harness.spec.language.data import SpecFolder
from harness.spec.language.inputs import tensors
from harness.spec.language.schema import Case, OtherModel
from harness.spec.model_files import FORMAT_NAMES, stored_model
from harness.spec.quoting import join_names
from harness.spec.targets import TESTED_FILE, parse_target
from harness.spec.yaml.tree import Node


def factory_name(factory: str, folder: SpecFolder) -> str:
    """The factory, with the absolute path of its file if it is named by one, relative to the spec."""
    file, _, name = factory.rpartition(":")
    return f"{folder.file(file).absolute()}:{name}" if file.endswith(".py") else factory


def outside_problems(
    node: Node, spec: Case | OtherModel, folder: SpecFolder, *, allow_import: bool
) -> Iterator[Problem]:
    """The problems of a model that is not in the spec itself: a file, or a factory of the user's."""
    if spec.file is not None:
        yield from stored_model_problems(node.location(["file"]), spec.file, folder, allow_import=allow_import)
    elif not allow_import:
        where = node.location(["factory"])
        yield Problem(where, f"factory: {spec.factory} would run code", "pass --allow-import to allow it")
    elif spec.factory is not None:
        try:
            factory_name(spec.factory, folder)
        except UsageError as error:
            yield tensors.problem_from(error, node.location(["factory"]))


def file_problems(node: Node, case: Case, folder: SpecFolder, *, allow_import: bool) -> Iterator[Problem]:
    """The problems of the files under test of the case at ``node``, and of what does not go with them."""
    files = node.child("files") or node
    for name, text in case.files.items():
        yield from stored_model_problems(files.location([name]), text, folder, allow_import=allow_import)
    yield from _target_problems(node, case)
    if case.file is not None and not case.files and case.mode == "train":
        yield Problem(node.location(["mode"]), "mode: a file has the mode it was saved in", "remove `mode`")
    if case.files or case.file is not None:
        kind = "`files:`" if case.files else "`file:`"
        if case.expect.raises is not None:
            where = node.location(["expect", "raises"], of_key=True)
            yield Problem(where, f"raises: not allowed with {kind}", "write a case without the files for it")
    if case.file is not None:
        for key in ("gradient", "gradient_range", "equals", "differs_from"):
            if getattr(case.expect, key) is not None:
                where = node.location(["expect", key], of_key=True)
                yield Problem(where, f"{key}: not allowed with `file:`", "use `outputs`, `shape`, `range` or `formula`")


def _target_problems(node: Node, case: Case) -> Iterator[Problem]:
    if case.targets and not case.files:
        remedy = "remove it, and choose targets with --targets; or add the `files:` that it is about"
        yield Problem(node.location(["targets"], of_key=True), "targets: only a case with `files` has its own", remedy)
        return
    for at, text in enumerate(case.targets):
        where = node.location(["targets", at])
        try:
            target = parse_target(text)
        except UsageError as error:
            yield tensors.problem_from(error, where)
            continue
        if target.tested_file not in case.files:
            known = join_names(f"{TESTED_FILE}{name}/RUNTIME" for name in case.files)
            yield Problem(where, f"targets: {text} is no target of a file under `files`", f"write {known}")


def stored_model_problems(where: Location, text: str, folder: SpecFolder, *, allow_import: bool) -> Iterator[Problem]:
    """The problems of the model file that a spec calls ``text`` at ``where``."""
    try:
        file = stored_model(folder.file(text))
    except UsageError as error:
        yield tensors.problem_from(error, where)
        return
    if file.runs_code and not allow_import:
        message = f"{text}: {FORMAT_NAMES[file.format]} runs code when it is loaded"
        yield Problem(where, message, "pass --allow-import to allow it")
