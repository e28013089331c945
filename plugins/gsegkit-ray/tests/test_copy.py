"""Copies of a finished run, and what needs no cluster."""

import json
import socket
import subprocess
import sys

import fsspec
import pytest
from gsegkit_ray.config import RayConfig
from gsegkit_ray.copy import Copy

from gsegkit.config import build_config
from gsegkit.errors import ConfigError, DataError
from gsegkit.storage import temporary_beside


@pytest.fixture
def run(tmp_path):
    """A folder like a run's."""
    folder = tmp_path / "run"
    (folder / "dataset").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": 0}))
    (folder / "dataset/shard-00000.safetensors").write_bytes(b"pairs")
    (folder / ".lock").write_text("process 1")
    temporary_beside(folder / "x").write_text("unfinished")
    return folder


@pytest.fixture
def url():
    yield "memory://bucket/run"
    fsspec.filesystem("memory").store.clear()


def test_a_run_is_copied_and_an_earlier_copy_renewed(run, url):
    memory = fsspec.filesystem("memory")
    Copy.checked(url).take(run)
    assert sorted(memory.store) == ["/bucket/run/config.json", "/bucket/run/dataset/shard-00000.safetensors"]
    (run / "dataset/shard-00000.safetensors").write_bytes(b"others")
    Copy.checked(url).take(run)
    assert memory.cat_file("/bucket/run/dataset/shard-00000.safetensors") == b"others"


@pytest.mark.parametrize("name", ["config.json", "thesis.docx"])
def test_what_is_not_a_copy_of_this_run_is_left_as_it_is(run, url, name):
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/bucket/run/{name}", b'{"seed": 1}')
    with pytest.raises(DataError, match="is not empty and not a copy of this run"):
        Copy.checked(url).take(run)
    assert sorted(memory.store) == [f"/bucket/run/{name}"]
    assert memory.cat_file(f"/bucket/run/{name}") == b'{"seed": 1}'


def test_a_copy_to_a_folder(run, tmp_path):
    Copy.checked(f"file://{tmp_path}/there").take(run)
    assert {path.name for path in (tmp_path / "there").rglob("*") if path.is_file()} == {
        "config.json", "shard-00000.safetensors",
    }  # fmt: skip


def test_a_place_that_cannot_be_reached_is_told_before_the_run():
    with pytest.raises(ConfigError, match="'nosuch://bucket/run' cannot be reached"):
        Copy.checked("nosuch://bucket/run")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "ray://head:10001"}, "a Ray client cannot start a run"),
        ({"address": "head"}, "an address is local, auto, or the host:port"),
        ({"retries": -1}, "greater than or equal to 0"),
        ({"gpus_per_worker": 2}, "less than or equal to 1"),
        ({"adress": "auto"}, "did you mean 'address'?"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises(ConfigError, match=r"launcher\.") as caught:
        build_config(RayConfig, options, "launcher")
    assert said in caught.value.message


def test_listing_imports_no_ray():
    code = "import sys, gsegkit_ray.config, gsegkit_ray.kit; assert not {'ray', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, "-m", "gsegkit", "run", "--gen", "toy", "--extractor", "native", "--seg", "unet", "--smoke",
         "--launcher", "ray", "-o", f"launcher.address={address}", "--out", str(tmp_path / "run")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"error: there is no Ray cluster at '{address}'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
