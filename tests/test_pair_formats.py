"""The formats of the pairs: the same pairs in each, one at a time in a folder, and nothing of a stranger's tar believed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import tarfile
import tracemalloc
from random import Random

import psutil
import pytest
import torch
from PIL import Image

from gsegkit import api
from gsegkit.context import RunContext
from gsegkit.dataset import Subset
from gsegkit.engine import layouts, synthesis
from gsegkit.engine.estimate import estimate
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import PAIR_FORMATS, Plan
from gsegkit.engine.shards import Manifest, ShardDataset, shard_path, write_shard
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ArtifactError, ConfigError, GsegkitError, StorageError
from gsegkit.exports.datasets import export_dataset
from gsegkit.images import png_bytes
from gsegkit.records.tensors import stored_tensors
from gsegkit.storage import file_hash
from gsegkit.tensors import state_hash
from gsegkit.testing import Listener
from gsegkit.testing.processes import together
from gsegkit.types import LabelledBatch

SIDE = 16
NATIVE, TAR = PAIR_FORMATS


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(synthesis, "SHARD_SIZE", 32)


@pytest.fixture
def toy(registry):
    return registry.build("generator", "toy", {"size": SIDE})


@pytest.fixture
def native(registry, toy):
    extractor = registry.build("extractor", "native")
    extractor.fit(toy, RunContext("."))
    return extractor


@pytest.fixture
def make(toy, native):
    """Pairs of the toy with its own masks."""

    def synthesized(folder, count, format=TAR, **more):
        return synthesize(toy, native, [], count, RunContext(folder, batch_size=8), format=format, **more)

    return synthesized


def rows(dataset):
    return [(sample.name, sample.pixels.tolist(), sample.mask.tolist()) for sample in dataset]


def same(a: ShardDataset, b: ShardDataset) -> bool:
    scores, others = a.scores(), b.scores()
    equal = scores.keys() == others.keys() and all(torch.equal(scores[name], others[name]) for name in scores)
    return equal and rows(a) == rows(b) and torch.equal(a.seeds(), b.seeds())


def opened() -> list[str]:
    """Files that this process has open."""
    return [file.path for file in psutil.Process().open_files()]


# ---- the same pairs ------------------------------------------------------------------------------------------------


def test_both_formats_hold_the_same_pairs(make, tmp_path):
    stored, tar = make(tmp_path / "a", 40, NATIVE), make(tmp_path / "b", 40, TAR)
    assert same(stored, tar)
    assert same(tar, ShardDataset(tmp_path / "b"))
    assert stored.scores([7, 39]).keys() == {"coverage"}
    assert torch.equal(stored.scores([7, 39])["coverage"], tar.scores()["coverage"][[7, 39]])
    assert [path.name for path in tar.paths] == ["shard-00000.tar", "shard-00001.tar"]
    assert tar[-1].name == tar[39].name
    with pytest.raises(IndexError):
        tar[40]


def test_scores_that_are_no_numbers_come_back(tmp_path):
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.1])
    for format in PAIR_FORMATS:
        batch = LabelledBatch(
            torch.arange(4) - 2, torch.zeros(4, 3, 2, 3, dtype=torch.uint8), torch.zeros(4, 2, 3, dtype=torch.uint8),
            torch.zeros(4, 0, 2, 3), {"odd": values},
        )  # fmt: skip
        manifest = Manifest(
            classes=("a",), num_shards=1, shard_size=4, height=2, width=3, fit_rule="pad", format=format
        )
        manifest.write(tmp_path / format)
        write_shard(tmp_path / format, 0, batch, {}, format)
        found = ShardDataset(tmp_path / format)
        assert found.seeds().tolist() == [-2, -1, 0, 1]
        assert torch.allclose(found.scores()["odd"], values, rtol=0, atol=0, equal_nan=True)
        assert found[3].pixels.shape == (3, 2, 3)


def test_a_segmenter_has_the_same_weights_from_both(make, registry, tmp_path):
    states = []
    for format in PAIR_FORMATS:
        pairs = make(tmp_path / format, 40, format)
        segmenter = registry.build("segmenter", "tiny", {"steps": 3})
        segmenter.fit(pairs, RunContext(tmp_path / f"of-{format}"))
        states.append(state_hash(segmenter))
    assert states[0] == states[1]


def test_the_webdataset_library_reads_the_shards(make, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pairs = make(tmp_path, 40)
    found = list(webdataset.WebDataset([str(path) for path in pairs.paths], shardshuffle=False))
    assert [sample["__key__"] for sample in found] == [sample.name for sample in pairs]
    mask = Image.open(io.BytesIO(found[39]["mask.png"]))
    assert list(mask.tobytes()) == pairs[39].mask.flatten().tolist()
    assert json.loads(found[5]["json"])["seed"] == int(pairs.seeds([5]))


def test_more_shards_than_are_kept_open(make, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_OPEN", 2)
    monkeypatch.setattr(synthesis, "SHARD_SIZE", 16)
    for format in PAIR_FORMATS:
        pairs = make(tmp_path / format, 80, format)
        assert [pairs[i].name for i in range(0, 80, 7)] == [f"{i:08d}" for i in range(0, 80, 7)]
        assert len(pairs.paths) == 5
        assert 1 <= len([path for path in opened() if path.startswith(str(tmp_path / format))]) <= 2


@pytest.mark.parametrize("format", PAIR_FORMATS)
def test_a_pair_more_takes_a_few_bytes_of_memory(make, tmp_path, monkeypatch, format):
    monkeypatch.setattr(synthesis, "SHARD_SIZE", 256)
    first, shards = make(tmp_path, 256, format).paths[0], 10
    for number in range(1, shards):
        for path in (first, first.with_suffix(".json")):
            os.link(path, shard_path(tmp_path, number, format).with_suffix(path.suffix))
    ShardDataset(tmp_path).manifest.model_copy(update={"num_shards": shards}).write(tmp_path)
    tracemalloc.start()
    try:
        pairs = Subset(ShardDataset(tmp_path, verify=False), range(256 * shards))
        for row in range(0, len(pairs), 256):
            _ = pairs[row]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pairs) == 2560
    assert held < 64 * len(pairs), "of 1,024 bytes of pixels and mask"


# ---- resume, workers, another format -------------------------------------------------------------------------------


def test_workers_and_a_damaged_shard(make, tmp_path):
    whole = make(tmp_path / "one", 80)
    assert make(tmp_path / "two", 80, worker=(1, 2)) is None
    made = make(tmp_path / "two", 80, worker=(0, 2))
    assert made.hashes == whole.hashes, "equal pairs give equal bytes"
    path = shard_path(tmp_path / "one", 1, TAR)
    untouched = shard_path(tmp_path / "one", 0, TAR).stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="shard 1"):
        ShardDataset(tmp_path / "one")
    assert same(make(tmp_path / "one", 80), made)
    assert shard_path(tmp_path / "one", 0, TAR).stat().st_mtime_ns == untouched


def test_several_processes_write_the_same_files(toy, native, make, tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "SHARD_SIZE", 16)
    alone = make(tmp_path / "one", 100)

    def work(team):
        return synthesize(
            toy, native, [], 100, RunContext(tmp_path / "two", batch_size=8, team=team), format=TAR
        ).hashes

    assert together(2, work) == [alone.hashes] * 2
    assert len(alone.hashes) == 7


def test_a_run_in_another_format_remakes_the_pairs_and_nothing_else(plan, registry, tmp_path):
    first = run(plan, tmp_path / "run", registry=registry)
    weights = file_hash(tmp_path / "run/segmenter/state.safetensors")
    other = Plan.from_options(plan.record(), format=TAR)
    with pytest.raises(ConfigError, match=r"format: safetensors -> webdataset"):
        run(other, tmp_path / "run", registry=registry)
    said = Listener()
    again = run(other, tmp_path / "run", registry=registry, update=True, progress=said)
    assert [line for line in said.infos if "reused" in line] == ["extractor: reused", "segmenter: reused"]
    assert {path.suffix for path in (tmp_path / "run/dataset").glob("shard-*")} == {".json", ".tar"}
    assert again.report.metrics == first.report.metrics
    run(other, tmp_path / "tar", registry=registry)
    assert file_hash(tmp_path / "tar/segmenter/state.safetensors") == weights
    assert (tmp_path / "tar/config.json").read_bytes() == (tmp_path / "run/config.json").read_bytes()


def test_more_pairs_take_the_runs_format_unless_told_otherwise(plan, registry, tmp_path):
    session = dataclasses.replace(api.Session.default(), registry=registry)
    run(Plan.from_options(plan.record(), format=TAR), tmp_path / "run", registry=registry)
    more = api.synthesize(tmp_path / "run", tmp_path / "a", 50, device="cpu", session=session)
    assert more.manifest.format == TAR
    with pytest.raises(ConfigError, match="format: webdataset -> safetensors"):
        api.synthesize(tmp_path / "run", tmp_path / "a", 50, format=NATIVE, device="cpu", session=session)
    changed = api.synthesize(
        tmp_path / "run", tmp_path / "a", 50, format=NATIVE, device="cpu", update=True, session=session
    )
    assert changed.manifest.format == NATIVE
    assert not list((tmp_path / "a").glob("*.tar"))
    with pytest.raises(ConfigError, match="safetensors"):
        api.synthesize(tmp_path / "run", tmp_path / "b", 50, format="zip", device="cpu", session=session)


def test_a_disk_that_is_too_small_is_told_before_the_work(plan, registry, make, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(StorageError, match="the pairs need about"):
        make(tmp_path / "pairs", 50)
    assert not list((tmp_path / "pairs").iterdir())
    with pytest.raises(StorageError, match="the pairs need about"):
        run(plan, tmp_path / "run", registry=registry)
    assert not (tmp_path / "run/extractor").exists(), "before the first stage"


def test_an_export_links_what_is_ready(make, tmp_path, monkeypatch):
    pairs = make(tmp_path / "pairs", 40)
    summary = export_dataset(pairs, tmp_path / "out", TAR)
    assert "not copied" in str(summary)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.yaml", "pairs-000000.tar", "pairs-000001.tar",
    ]  # fmt: skip
    assert (tmp_path / "out/pairs-000001.tar").samefile(pairs.paths[1])

    def refuse(*_):
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    summary = export_dataset(pairs, tmp_path / "copy", TAR)
    assert "not copied" not in str(summary)
    assert file_hash(tmp_path / "copy/pairs-000001.tar") == pairs.hashes[1]
    strange(tmp_path / "strange", HOSTILE["a link"])
    with pytest.raises(ArtifactError, match="something else than files"):
        export_dataset(ShardDataset(tmp_path / "strange"), tmp_path / "bad", TAR)
    assert not (tmp_path / "bad").exists()


def test_the_estimate_knows_the_format(plan, registry, tmp_path):
    plan = Plan.from_options(plan.record(), num_samples=72, format=TAR)
    found = estimate(plan, registry, tmp_path / "run")
    run(plan, tmp_path / "run", registry=registry)
    shards = sum(path.stat().st_size for path in (tmp_path / "run/dataset").iterdir())
    other = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()) - shards
    assert 0.8 * shards < found.disk_bytes - (1 << 20) - other < 1.2 * shards
    pairs, files = (
        sum(path.is_file() for path in folder.rglob("*")) for folder in (tmp_path / "run/dataset", tmp_path)
    )
    assert pairs == 2 * 3 + 2, "three shards with their records; the manifest, and the stage's record"
    assert pairs < found.files <= files, "of the report's pictures, those of a smoke run"


# ---- a stranger's tar ----------------------------------------------------------------------------------------------

GOOD = png_bytes(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
MASK = png_bytes(torch.zeros(SIDE, SIDE, dtype=torch.uint8))
ABOUT = json.dumps({"seed": 1, "scores": {"area": 0.5}}).encode()


def member(name: str, content: bytes = b"", **header) -> bytes:
    """A member's bytes; `header` sets attributes of its TarInfo."""
    found = tarfile.TarInfo(name)
    found.size = len(content)
    for key, value in header.items():
        setattr(found, key, value)
    form = tarfile.GNU_FORMAT if found.size < 0 or found.size > 8**11 else tarfile.USTAR_FORMAT
    return found.tobuf(form) + content + b"\0" * (-len(content) % 512)


def trio(key: str = "00000001", image: bytes = GOOD, mask: bytes = MASK, about: bytes = ABOUT) -> list[bytes]:
    return [member(f"{key}.image.png", image), member(f"{key}.mask.png", mask), member(f"{key}.json", about)]


def png(mode: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(*members: bytes, end: bytes = b"\0" * 1024) -> bytes:
    return b"".join(members) + end


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
HOSTILE = {
    "a link": tar_of(member("00000001.image.png", **LINK), *trio()[1:]),
    "a hard link": tar_of(member("00000001.image.png", type=tarfile.LNKTYPE, linkname="a"), *trio()[1:]),
    "a device": tar_of(member("00000001.image.png", type=tarfile.CHRTYPE), *trio()[1:]),
    "a folder": tar_of(member("00000001.image.png", type=tarfile.DIRTYPE), *trio()[1:]),
    "a sparse file": tar_of(member("00000001.image.png", GOOD, type=tarfile.GNUTYPE_SPARSE), *trio()[1:]),
    "an extended header": tar_of(member("00000001.image.png", b"11 path=/x\n", type=tarfile.XHDTYPE), *trio()[1:]),
    "a long name": tar_of(member("00000001.image.png", b"../" * 99, type=tarfile.GNUTYPE_LONGNAME), *trio()[1:]),
    "a name that climbs": tar_of(member("../00000001.image.png", GOOD), *trio()[1:]),
    "an absolute name": tar_of(member("/tmp/00000001.image.png", GOOD), *trio()[1:]),
    "another order": tar_of(*trio()[::-1]),
    "two names": tar_of(*trio()[:2], member("00000002.json", ABOUT)),
    "a member of 60 GB": tar_of(member("00000001.image.png", GOOD, size=60 << 30), *trio()[1:]),
    "a member of less than nothing": tar_of(member("00000001.image.png", GOOD, size=-512), *trio()[1:]),
    "a pair too many": tar_of(*trio(), *trio("00000002")),
    "no end": tar_of(*trio(), end=b""),
    "an end too early": tar_of(*trio()[:1]),
    "noise": os.urandom(4096),
    "another size": tar_of(*trio(image=png("RGB", (SIDE, SIDE + 1)))),
    "30,000 pixels a side": tar_of(*trio(mask=png("L", (30_000, 30_000))[: 2 * SIDE * SIDE + (64 << 10)])),
    "another mode": tar_of(*trio(image=png("RGBA", (SIDE, SIDE)))),
    "a mask of colours": tar_of(*trio(mask=png("P", (SIDE, SIDE)))),
    "a cut PNG": tar_of(*trio(image=GOOD[:50])),
    "a GIF": tar_of(*trio(image=b"GIF89a" + b"\0" * 50)),
    "a JSON of another kind": tar_of(*trio(about=b"[1]")),
    "a seed that is none": tar_of(*trio(about=b'{"seed": true, "scores": {}}')),
    "a seed beyond 64 bits": tar_of(*trio(about=b'{"seed": 9223372036854775808, "scores": {}}')),
    "a score that is none": tar_of(*trio(about=b'{"seed": 1, "scores": {"a": "b"}}')),
    "deep JSON": tar_of(*trio(about=b"[" * 60_000)),
}


def strange(folder, content: bytes, **record) -> None:
    """A data set of one shard with this content, and records that agree with it."""
    manifest = Manifest(classes=("a",), num_shards=1, shard_size=1, height=SIDE, width=SIDE, fit_rule="pad", format=TAR)
    if not folder.joinpath("dataset.json").exists():
        manifest.write(folder)
    path = shard_path(folder, 0, TAR)
    path.write_bytes(content)
    record = {"rows": 1, "counts": {}, "sha256": file_hash(path), **record}
    path.with_suffix(".json").write_text(json.dumps(record))


def test_the_good_one_of_the_table_is_read(tmp_path):
    strange(tmp_path, tar_of(*trio()))
    pairs = ShardDataset(tmp_path)
    assert (pairs[0].name, pairs.seeds().tolist(), pairs.scores()["area"].tolist()) == ("00000001", [1], [0.5])


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_strangers_tar_ends_in_a_sentence(tmp_path, content):
    strange(tmp_path / "pairs", content)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ArtifactError) as told:
        pairs = ShardDataset(tmp_path / "pairs")
        _ = pairs[0], pairs.seeds(), pairs.scores()
    assert "shard" in told.value.message
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "nothing was unpacked"


def test_no_change_of_a_byte_does_more_than_end_in_a_sentence(tmp_path):
    """Headers and their neighbourhood, where numbers and names are; the records agree with what the file became."""
    good, random = tar_of(*trio(), *trio("00000002")), Random(0)
    headers = [at for at in range(0, len(good), 512) if good[at + 257 : at + 262] == b"ustar"]
    assert len(headers) == 6
    for number in range(150):
        damaged = bytearray(good)
        for _ in range(random.randint(1, 3)):
            at = random.choice(headers) + random.randrange(1024)
            damaged[at % len(good)] = random.choice((0, 0x20, 0x30, 0x37, 0x80, 0xFF, random.randrange(256)))
        if number % 2:  # with sums that agree again: what is behind them is looked at
            for at in headers:
                damaged[at + 148 : at + 156] = b" " * 8
                damaged[at + 148 : at + 156] = b"%06o\0 " % sum(damaged[at : at + 512])
        strange(tmp_path, bytes(damaged), rows=2)
        with contextlib.suppress(ArtifactError):
            pairs = ShardDataset(tmp_path)
            assert pairs[1].pixels.shape == (3, SIDE, SIDE)
            _ = pairs[0], pairs.seeds(), pairs.scores()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "shard-00000.json", "shard-00000.tar"]


def test_a_file_far_larger_than_its_pairs_is_not_even_hashed(tmp_path):
    strange(tmp_path, tar_of(*trio()))
    os.truncate(shard_path(tmp_path, 0, TAR), 1 << 42)  # sparse: hours of reading
    with pytest.raises(ArtifactError, match=r"shard 0 .* is missing or damaged"):
        ShardDataset(tmp_path)
    strange(tmp_path, tar_of(*trio()), rows=10**9)
    with pytest.raises(ArtifactError, match=r"shard 0 .* is missing or damaged"):
        ShardDataset(tmp_path)
    strange(tmp_path, tar_of(*trio()), rows=10**6)
    with pytest.raises(ArtifactError, match="fewer pairs than its record says"):
        ShardDataset(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        "[]",
        '{"seeds": 1}',
        '{"seeds": {"dtype": "I64", "shape": [2], "data_offsets": [0, 8]}}',
        '{"seeds": {"dtype": "I64", "shape": [-1], "data_offsets": [0, -8]}}',
        '{"seeds": {"dtype": "I64", "shape": [1], "data_offsets": [-8, 0]}}',
        '{"seeds": {"dtype": "I64", "shape": [4096], "data_offsets": [0, 32768]}}',
        '{"seeds": {"dtype": "I65", "shape": [1], "data_offsets": [0, 8]}}',
        '{"seeds": {"dtype": "I64", "shape": [true], "data_offsets": [0, 8]}}',
        '{"seeds": {"dtype": "I64", "shape": 1, "data_offsets": [0, 8]}}',
    ],
)
def test_a_strangers_table_of_tensors_ends_in_a_sentence(tmp_path, table):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(table).to_bytes(8, "little") + table.encode() + b"\0" * 8)
    with pytest.raises(GsegkitError, match="not a readable safetensors file"):
        stored_tensors(path)
    path.write_bytes((1 << 62).to_bytes(8, "little"))
    with pytest.raises(GsegkitError, match="not a readable safetensors file"):
        stored_tensors(path)
