"""Each finding of the gallery is still there, and its script shows it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from docs.extensions.finding import known_failure, script

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery" / "index.md"
FINDINGS = re.findall(r"^```\{finding\} (\S+) (\S+)$", GALLERY.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_gallery_has_findings() -> None:
    assert len(FINDINGS) >= 9


@pytest.mark.filterwarnings("default")  # as for a reader who runs it
@pytest.mark.parametrize(("case", "target"), FINDINGS)
def test_the_script_of_a_finding_shows_it(
    case: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert known_failure(case, target).reason
    (tmp_path / "script.py").write_text(script(case, target), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path("script.py", run_name="__main__")
    assert (exit_info.value.code, capsys.readouterr().out.splitlines()[-1][:11]) == (1, "reproduced:")
