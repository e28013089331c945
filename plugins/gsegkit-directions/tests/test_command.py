import json
import subprocess
import sys

import pytest
from gsegkit_directions.colour_maps import read_direction
from typer.testing import CliRunner

from gsegkit.cli.main import app
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.images import read_image
from gsegkit.parts import save_part
from gsegkit.plugins import installed

SMALL = ["-o", "gen.size=32", "-o", "gen.num_classes=0", "-o", "extractor.num_random=2", "-o", "extractor.num_pca=0"]
SMALL += ["-o", "extractor.num_images=16", "--quiet"]


@pytest.fixture(scope="module")
def command():
    if not any(group.name == "directions" for group in app.registered_groups):
        installed().manager.hook.gsegkit_commands(app=app)

    def run(*arguments):
        return CliRunner().invoke(app, ["directions", *arguments], catch_exceptions=True)

    return run


def test_ranks_and_writes(command, tmp_path):
    direction, sheet = tmp_path / "best.safetensors", tmp_path / "sheet.png"
    done = command("score", "toy", *SMALL, "--top", "3", "--json", "--save", str(direction), "--sheet", str(sheet))
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert len(rows) == 3
    assert rows[0]["name"] == "coordinate-0"
    assert rows[0].keys() == {"name", "split", "residual", "change"}
    assert read_direction(direction, (10,))[0] == 1
    assert read_image(sheet).shape == (3, 4 * 32 + 3 * 2, 8 * 32 + 7 * 2)


def test_a_table_for_people(command):
    done = command("score", "toy", *SMALL)
    assert done.exit_code == 0, done.output
    assert "best: coordinate-0" in done.stderr


def test_learned_directions_are_ranked_beside_the_others(command, context):
    ctx = context()
    registry = installed()
    toy = registry.build("generator", "toy", {"size": 32, "num_classes": 0})
    learned = registry.build("extractor", "directions", {"steps": 100, "batch_size": 8})
    learned.fit(toy, ctx)
    save_part(learned, ctx.folder / "extractor", "extractor", "directions")
    done = command("score", "toy", *SMALL, "-o", "extractor.num_coordinates=0", "--learned", str(ctx.folder), "--json")
    assert done.exit_code == 0, done.output
    names = [row["name"] for row in json.loads(done.stdout)]
    assert set(names) == {"light of run", "dark of run", "random-0", "random-1"}
    assert set(names[:2]) == {"light of run", "dark of run"}


def test_bad_input(command, context):
    assert isinstance(command("score", "toy", "-o", "segmenter.steps=2").exception, ConfigError)
    assert "did you mean 'num_images'" in str(command("score", "toy", "-o", "extractor.imagse=2").exception)
    ctx = context()
    native = installed().build("extractor", "native", {})
    native.classes = ("a", "b")
    save_part(native, ctx.folder / "extractor", "extractor", "native")
    done = command("score", "toy", *SMALL, "--learned", str(ctx.folder))
    assert isinstance(done.exception, CapabilityError)


def test_the_hook_is_light():
    code = (
        "import sys, typer, gsegkit_directions as d; a = typer.Typer(); d.gsegkit_commands(a); d.gsegkit_components(); "
        "print({'torch', 'numpy', 'scipy'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
