"""README.md tells the truth about settings, commands and files."""

import re
from pathlib import Path

import pytest

from app.cli.program import run
from app.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = "" if default in {None, ()} else f"`{default}`"
        rows.append(f"| `EXPUNGE_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def test_the_settings_table_is_that_of_the_settings():
    written = README.partition("<!-- settings -->\n")[2].partition("\n<!-- /settings -->")[0]
    assert written == settings_table(), f"the table should be:\n{settings_table()}"


def test_every_make_target_named_in_the_documents_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    documents = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", documents, flags=re.MULTILINE))
    assert {"demo", "serve", "test", "setup", "check"} <= named
    assert named <= targets


def test_every_command_in_the_readme_exists(capsys: pytest.CaptureFixture[str]):
    named = set(re.findall(r"(?:^|`)expunge ((?:keys |register )?[a-z]+)(?= )", README, flags=re.MULTILINE))
    assert {"train", "register dataset", "register model", "forget", "download"} <= named
    for command in named:
        assert run([*command.split(), "--help"]) == 0, command
    capsys.readouterr()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_linked_files_exist(link):
    assert (ROOT / link).exists()
