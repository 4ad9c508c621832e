"""The code in README and docs runs as printed; the examples run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from entroreg.benchmarks.cli.parsing import parse

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
BLOCKS = [block for page in DOCUMENTS for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_documented_code_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "document", "exec"), {})
    printed = re.findall(r"print\(.*\)  # (.*)", block)
    assert capsys.readouterr().out.splitlines() == printed


def test_readme_has_code_and_no_gap() -> None:
    assert len(BLOCKS) >= 2
    assert "RESULTS" not in (ROOT / "README.md").read_text()


def test_every_documented_command_line_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    readme = (ROOT / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^\t\$\(BIN\)/entroreg (.*)$", makefile, flags=re.MULTILINE)
    lines += re.findall(r"^entroreg ([^;#\n]*)", readme, flags=re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        assert parse(line.split()) is not None


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(ROOT / "examples" / "sac_entropy_schedule.py"))
    agent = example["main"](steps=150)
    assert agent.target_entropy == pytest.approx(-2.0 * 50 / 150, abs=0.02)
    assert (tmp_path / "sac_entropy_schedule.zip").exists()


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
