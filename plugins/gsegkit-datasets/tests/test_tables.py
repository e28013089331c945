"""Data sets in tables, saved as files that every reader takes."""

import io
import json
import threading

import gsegkit_datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gsegkit_datasets import tables
from gsegkit_datasets.tables import unpack
from gsegkit_datasets.testing import make_miniature
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from gsegkit.errors import ConfigError, DataError, InterruptedRunError, MissingDependencyError
from gsegkit.plugins import Registry

REGISTRY = Registry()
REGISTRY.add(gsegkit_datasets, "gsegkit-datasets")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def labelled(name, folder, **options):
    return REGISTRY.build("dataset", name, options).labelled(folder)


def cell(path, name=None):
    return {"bytes": path.read_bytes(), "path": name}


def table_of(dataset, image="image", mask="mask", names=True):
    """A table as Hugging Face writes it, of the files of a data set."""
    columns = {
        image: [cell(row.image, row.image.name if names else None) for row in dataset.rows],
        mask: [cell(row.mask) for row in dataset.rows],
        "label": list(range(len(dataset.rows))),
    }
    return pa.table(columns, pa.schema([(image, IMAGE), (mask, IMAGE), ("label", pa.int64())]))


def png(value=0, size=8):
    file = io.BytesIO()
    Image.fromarray(np.full((size, size), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "layout", "splits", "mask"),
    [
        ("cub", "official", {"train": "official-train", "test": "official-test"}, "segmentation_mask"),
        ("duts", "parent", {"train": "official-train", "test": "official-test"}, "mask"),
        ("ecssd", "official", {"train": "all"}, "mask"),
        (
            "celebamask-hq", "merged-official",
            {"train": "official-train", "validation": "official-val", "test": "official-test"}, "mask",
        ),
    ],
)  # fmt: skip
def test_the_mirrors_tables_hold_what_the_archives_hold(tmp_path, name, layout, splits, mask):
    mini = make_miniature(name, layout, tmp_path / "mini")
    for part, split in splits.items():
        data = labelled(name, mini.folder, split=split, **mini.options)
        path = tmp_path / "tables" / "data" / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table_of(data, mask=mask, names=name != "cub"), path, row_group_size=2)
    done = unpack(tmp_path / "tables", tmp_path / "out")
    assert done.columns == ("image", mask)
    for part, split in splits.items():
        expected = labelled(name, mini.folder, split=split, **mini.options)
        found = labelled(name, tmp_path / "out", split=split, **mini.options)
        assert len(found) == len(expected) == done.images[part] == done.masks[part]
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one.mask, other.mask)
            assert np.array_equal(one.pixels, other.pixels)
    if "all" in REGISTRY.find("dataset", name).config_class().model_fields["split"].annotation.__args__:
        whole = labelled(name, tmp_path / "out", split="all", **mini.options)
        assert len(whole) == sum(done.images.values())


def test_what_export_writes_comes_back_and_is_a_plain_folder(tmp_path):
    """`gsegkit export --format huggingface` writes such a stream; its masks are indices."""
    masks = [np.array([[0, 1], [2, 255]], np.uint8), np.array([[1, 1], [0, 0]], np.uint8)]
    rows = []
    for index, mask in enumerate(masks):
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        picture = {"bytes": png(index, 2), "path": None}
        rows.append({"name": f"deep/er/photo {index}", "image": picture, "mask": {"bytes": file.getvalue()}})
    table = pa.Table.from_pylist(rows)
    with (
        pa.OSFile(str(tmp_path / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as w,
    ):
        w.write_table(table)
    done = unpack(tmp_path / "data-00000-of-00001.arrow", tmp_path / "out")
    assert done.images == {"all": 2}
    found = labelled("folder", tmp_path / "out" / "all")
    assert [sample.name for sample in found] == ["photo 0", "photo 1"]
    assert all(np.array_equal(sample.mask, mask) for sample, mask in zip(found, masks, strict=True))


def test_files_of_arrow_and_folders_that_name_the_split(tmp_path):
    table = pa.table({"img": [png(1), png(2)]})
    (tmp_path / "t" / "val").mkdir(parents=True)
    with pa.OSFile(str(tmp_path / "t" / "val" / "0000.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as w:
        w.write_table(table)
    pq.write_table(table, tmp_path / "t" / "0000.parquet")
    done = unpack(tmp_path / "t", tmp_path / "out")
    assert done.images == {"all": 2, "validation": 2}
    assert not done.masks
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert names == [f"{split}/images/{number:07d}.png" for split in ("all", "validation") for number in (0, 1)]


HOSTILE = (
    "../../x.png",
    "/etc/x.png",
    "..",
    "CON/../a.png",
    "a\0b.png",
    ".hidden.png",
    "a\nb.png",
    "x" * 300,
    "C:x.png",
)


def test_no_name_leads_outside(tmp_path):
    rows = [{"image": {"bytes": png(index), "path": name}, "file_name": name} for index, name in enumerate(HOSTILE)]
    pq.write_table(pa.Table.from_pylist(rows * 2), tmp_path / "train.parquet")
    before = sorted(tmp_path.rglob("*"))
    done = unpack(tmp_path / "train.parquet", tmp_path / "out")
    assert done.images == {"train": 2 * len(HOSTILE)}
    made = [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()]
    assert all(path.parent == tmp_path / "out" / "train" / "images" for path in made)
    assert len(made) == 2 * len(HOSTILE)


def test_bad_tables_are_told_and_nothing_is_left(tmp_path):
    def refused(write, error=DataError, **options):
        folder = tmp_path / f"case {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write(folder)
        with pytest.raises(error) as caught:
            unpack(folder, folder / "out" / "deep", **options)
        assert caught.value.hint
        assert not list((folder / "out").glob("*")) if (folder / "out").exists() else True
        return str(caught.value)

    def table(columns, name="a.parquet"):
        return lambda folder: pq.write_table(pa.table(columns), folder / name)

    assert "holds no table" in refused(lambda folder: None)
    assert "cannot be read" in refused(lambda folder: (folder / "a.parquet").write_bytes(b"PAR1 and no more"))
    assert "cannot be read" in refused(lambda folder: (folder / "a.arrow").write_bytes(b"ARROW1 and no more"))
    assert "no column of images" in refused(table({"text": ["a"], "label": [1]}))
    assert "no column 'nosuch'" in refused(table({"image": [png()]}), ConfigError, mask="nosuch")
    assert "no image of its own" in refused(table({"image": pa.array([None, png()], pa.binary())}))
    assert "no image of a known format" in refused(table({"image": [png(), b"<svg/>"]}))
    assert "hold no rows" in refused(table({"image": pa.array([], pa.binary())}))
    with pytest.raises(DataError, match="does not exist"):
        unpack(tmp_path / "nothing", tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    pq.write_table(pa.table({"image": [png()]}), tmp_path / "a.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        unpack(tmp_path / "a.parquet", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_it_can_be_stopped_and_leaves_nothing(tmp_path):
    pq.write_table(pa.table({"image": [png()] * 40}), tmp_path / "a.parquet")
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        unpack(tmp_path / "a.parquet", tmp_path / "out", stop=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet"]


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(tables.importlib, "import_module", fail)
    with pytest.raises(MissingDependencyError, match="gsegkit-datasets\\[tables\\]"):
        unpack(tmp_path, tmp_path / "out")


def test_the_command(tmp_path):
    app = Typer()
    app.callback()(lambda: None)
    gsegkit_datasets.gsegkit_commands(app)

    def run(*arguments):
        return CliRunner().invoke(app, ["unpack", *map(str, arguments)])

    pq.write_table(pa.table({"image": [png(1)], "mask": [png(255)]}), tmp_path / "test.parquet")
    done = run(tmp_path / "test.parquet", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["masks"], found["columns"]) == ({"test": 1}, {"test": 1}, ["image", "mask"])
    assert isinstance(run(tmp_path / "test.parquet", "--out", tmp_path / "out").exception, ConfigError)
    done = run(tmp_path / "test.parquet", "--out", tmp_path / "b", "-q")
    assert "gsegkit evaluate RUN --data" in done.output
