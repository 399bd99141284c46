"""Writing reports: whole files or none, clear errors, and the output for GitHub."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError, UsageError
from harness.registry import plugins
from harness.report import write
from harness.report.github import ANNOTATIONS, SUMMARY_BYTES, GitHubReport, error_commands
from harness.report.json_report import read_report
from harness.result import Report
from tests.report_samples import ALL, DIFFERENCE, ERROR, FAILED, PASSED, every_way_to_end_badly, report

FORMATS = ("json", "md", "junit", "csv", "github")


def test_every_format_is_registered_and_renders_every_status(tmp_path: Path) -> None:
    assert set(FORMATS) <= plugins("report").keys()
    paths = write(report(*ALL, *every_way_to_end_badly()), tmp_path / "new" / "folder", FORMATS)
    assert [path.name for path in paths] == ["report.json", "report.md", "report.xml", "report.csv", "report.github.md"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)
    assert all(path.stat().st_size for path in paths)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_report_is_a_report_in_every_format(tmp_path: Path, name: str) -> None:
    (path,) = write(Report({}, ()), tmp_path, [name])
    assert path.read_text("utf-8").strip()


def test_a_report_is_made_of_the_report_alone(tmp_path: Path) -> None:
    before = [plugins("report")[name].render(report(*ALL)) for name in FORMATS]
    (path,) = write(report(*ALL), tmp_path, ["json"])
    assert [plugins("report")[name].render(read_report(path)) for name in FORMATS] == before


def test_bytes_that_no_encoding_has_are_written_and_read_back(tmp_path: Path) -> None:
    odd = replace(ERROR, message="\udcff", log=("\x00\x1b",))
    paths = write(report(odd), tmp_path, FORMATS)
    assert read_report(paths[0]).results == (odd,)


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean junit"):
        write(report(*ALL), tmp_path, ["json", "junits"])
    with pytest.raises(UsageError, match="use one of bencher, csv, github"):
        write(report(*ALL), tmp_path, ["zzz"])
    assert not list(tmp_path.iterdir())


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The operating system lets no file grow further, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_the_old_report_stays_and_no_partial_file_remains(tmp_path: Path) -> None:
    (path,) = write(report(PASSED), tmp_path, ["json"])
    old = path.read_bytes()
    with (
        files_of_at_most(500),
        pytest.raises(HarnessError, match=r"cannot write .*report\.json: .+; make room") as caught,
    ):
        write(report(*ALL), tmp_path, ["json"])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HarnessError, match=r"cannot write .*; make room or fix"):
            write(report(*ALL), place, ["json"])


def test_a_folder_in_the_reports_place_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(HarnessError, match="cannot write"):
        write(report(*ALL), tmp_path, ["json"])
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_two_writers_into_one_folder_leave_one_whole_report(tmp_path: Path) -> None:
    for made in (report(PASSED), report(*ALL)):
        write(made, tmp_path, ["json"])
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["checks"] == len(ALL)


# --- GitHub ---------------------------------------------------------------------------------------------------------


def test_an_annotation_names_the_place_and_escapes_the_syntax_of_the_command() -> None:
    odd = replace(ERROR, case="a/b,c:d", message="100%\r\n::error::fake", where="specs/a,b.yaml:3:5")
    (command,) = error_commands(report(PASSED, odd)).splitlines()
    properties, message = command.removeprefix("::error ").split("::", 1)
    assert properties == "file=specs/a%2Cb.yaml,line=3,col=5,title=b%2Cc%3Ad%3A error"
    assert message.endswith("100%25 ::error::fake")


def test_checks_with_one_cause_share_an_annotation_at_the_place_of_the_first() -> None:
    alike = [replace(FAILED, case=f"a/b{number}", where=f"specs/a.yaml:{number}:1") for number in range(12)]
    loud, silent = error_commands(report(ERROR, *alike)).splitlines()[::-1]
    assert "unsupported" in loud
    assert silent.startswith("::error file=specs/a.yaml,line=0,col=1,title=failed%3A a%3A values differ")
    assert silent.count("%0A") == 11
    assert silent.endswith("%0Aand 2 more checks; see the summary")
    assert DIFFERENCE.replace("%", "%25") in silent


def test_annotations_beyond_the_limit_are_counted() -> None:
    many = [replace(FAILED, case=f"a{number}/b") for number in range(30)]
    commands = error_commands(report(*many)).splitlines()
    assert len(commands) == ANNOTATIONS
    assert "and 21 more checks" in commands[-1]
    assert len(error_commands(report(*many[:ANNOTATIONS])).splitlines()) == ANNOTATIONS


def test_nothing_is_annotated_where_all_is_as_expected() -> None:
    assert error_commands(report(PASSED)) == ""


def test_an_unknown_place_is_omitted() -> None:
    assert error_commands(report(replace(FAILED, where=None))).startswith("::error title=")


def test_the_step_summary_fits_and_names_the_full_report() -> None:
    huge = [replace(FAILED, case=f"s{number}/c", message="\u00e9" * 200) for number in range(6000)]
    text = GitHubReport().render(report(*huge))
    assert len(text.encode()) <= SUMMARY_BYTES
    assert "Not as expected: 6,000 of 6,000" in text
    assert text.endswith("see `report.md` and `report.json`.**\n")
    assert "did not fit" not in GitHubReport().render(report(*ALL))
