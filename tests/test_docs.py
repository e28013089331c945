"""The documentation cannot lie: reference pages are generated, and everything is named somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gsegkit.cli import main as cli
from gsegkit.plugins import KNOWN_PLUGINS, HookSpec, installed

ROOT = Path(__file__).parents[1]
FIRST_PARTY = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").exists())

pytestmark = pytest.mark.skipif(
    not set(FIRST_PARTY) <= {entry.dist for entry in installed().entries}, reason="needs every first-party plugin"
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
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"
