"""The documentation cannot lie: reference pages are generated, and everything is named somewhere."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

import gsegkit
import gsegkit.api
from gsegkit.cli import main as cli
from gsegkit.plugins import KNOWN_PLUGINS, HookSpec, installed

ROOT = Path(__file__).parents[1]
FIRST_PARTY = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").exists())

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/*.md")]

pytestmark = pytest.mark.skipif(
    not set(FIRST_PARTY) <= {dist.name for dist in distributions()}, reason="needs every first-party plugin"
)


def test_reference_pages_are_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_hook_and_component_is_documented():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for name in cli.COMMANDS:
        assert f"gsegkit {name}" in text, name
    for hook in (name for name in vars(HookSpec) if name.startswith("gsegkit_")):
        assert hook in text
    for entry in installed().entries:
        assert f"### {entry.component.name}\n" in text, entry.full_name


def test_every_verb_and_every_command_has_a_reference():
    python = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    for name in gsegkit.__all__:
        assert name.startswith("__") or f"\n## {name}\n" in python, name
    assert set(gsegkit.api.__all__) <= set(gsegkit.__all__)
    commands = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    for name in [*cli.COMMANDS, "import", "layered cluster", "directions score"]:
        assert f"\n## gsegkit {name}\n" in commands, name


def _sentences(page: Path) -> list[str]:
    """The sentences of a page's prose, without code, tables and headings; an item of a list ends a sentence."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    prose = re.sub(r"^(    .*|\|.*|#.*|!\[.*)$", "", text, flags=re.M)
    prose = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", prose)
    blocks = re.split(r"\n\s*\n|\n\s*[-*] |·", prose)
    return [one for block in blocks for one in re.split(r"(?<=[.!?:;])\s", block) if one.strip()]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *(ROOT / "docs/tutorial").glob("*.md")], ids=lambda page: page.name
)
def test_sentences_are_short(page):
    assert [one for one in _sentences(page) if len(one.split()) > 30] == []


def test_known_plugins_are_real():
    """What `list --all` promises can be installed from this repository."""
    have = {(entry.component.kind, entry.component.name): entry.dist for entry in installed().entries}
    for key, dist in KNOWN_PLUGINS.items():
        assert have.get(key) == dist, key


@pytest.mark.parametrize("dist", FIRST_PARTY)
def test_every_plugin_has_a_card_and_a_changelog_line(dist):
    assert len((ROOT / "plugins" / dist / "README.md").read_text(encoding="utf-8").splitlines()) > 10
    assert dist in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_version_stands_in_one_file():
    """VERSION is what every distribution has; the citation and the plugins' ranges follow it."""
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    major, minor, *_ = version.split(".")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for path in [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        assert "version" not in project, path
        if path.parent != ROOT:
            assert f"gsegkit>={major}.{minor},<{major}.{int(minor) + 1}" in project["dependencies"], path
