"""Exports: read back bit for bit, complete or absent."""

import errno
import json
import os
import sys
import tarfile

import pytest
import torch
import yaml

from gsegkit.annotation.rle import decode_rle
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, Sample
from gsegkit.errors import ConfigError, DataError, InterruptedRunError, MissingDependencyError
from gsegkit.exports.datasets import export_dataset
from gsegkit.exports.formats import DATASET_FORMATS, PREDICTION_FORMATS, load_writer
from gsegkit.exports.writers import DatasetWriter, PredictionWriter
from gsegkit.images import read_image, read_mask


def pairs(count=5, names=None, classes=("background", "cell", "nucleus")):
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (count, 3, 13, 21), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, len(classes), (count, 13, 21), dtype=torch.uint8, generator=generator)
    masks[:, 0, 0] = 255
    return MemoryDataset(pixels, masks, classes, names, fit_rule="crop")


def test_png_pairs_are_bit_identical(tmp_path):
    dataset = pairs()
    summary = export_dataset(dataset, tmp_path / "out")
    assert (summary.pairs, summary.format) == (5, "png")
    for sample in dataset:
        assert torch.equal(read_image(tmp_path / "out" / "images" / f"{sample.name}.png"), sample.pixels)
        assert torch.equal(read_mask(tmp_path / "out" / "masks" / f"{sample.name}.png"), sample.mask)
    assert yaml.safe_load((tmp_path / "out" / "classes.yaml").read_text()) == ["background", "cell", "nucleus"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_reason_to_refuse(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def fail(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert export_dataset(pairs(), tmp_path / "out").pairs == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_our_own_reader_opens_the_png_pairs(tmp_path):
    pytest.importorskip("gsegkit_datasets")
    from gsegkit.api import Session, open_labelled

    dataset = pairs()
    export_dataset(dataset, tmp_path / "out")
    opened = open_labelled(tmp_path / "out", Session.default())
    assert opened.classes == dataset.classes
    for one, other in zip(opened, dataset, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.mask, other.mask)


def test_coco_masks_come_back(tmp_path):
    dataset = pairs()
    export_dataset(dataset, tmp_path / "out", "coco")
    record = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [row["id"] for row in record["categories"]] == [1, 2]
    assert len({row["id"] for row in record["annotations"]}) == len(record["annotations"]) == 10
    names = {image["id"]: image["file_name"] for image in record["images"]}
    masks = {sample.name: torch.zeros_like(sample.mask) for sample in dataset}
    for row in record["annotations"]:
        mask = masks[names[row["image_id"]].removesuffix(".png")]
        mask[decode_rle(row["segmentation"])] = row["category_id"]
    for sample in dataset:
        expected = torch.where(sample.mask == 255, 0, sample.mask)
        assert torch.equal(masks[sample.name], expected)
        assert torch.equal(read_image(tmp_path / "out" / "images" / f"{sample.name}.png"), sample.pixels)


def test_coco_opens_in_pycocotools(tmp_path):
    from pycocotools import coco  # the test group brings it: missing is a failure, not a skip

    dataset = pairs()
    export_dataset(dataset, tmp_path / "out", "coco")
    opened = coco.COCO(str(tmp_path / "out" / "annotations.json"))
    seen = []
    for image_id in opened.getImgIds():
        sample = dataset[image_id - 1]
        for annotation in opened.loadAnns(opened.getAnnIds(imgIds=[image_id])):
            expected = (sample.mask == annotation["category_id"]).numpy()
            assert (opened.annToMask(annotation).astype(bool) == expected).all()
            seen.append((image_id, annotation["category_id"]))
    assert sorted(seen) == [(i + 1, label) for i in range(len(dataset)) for label in (1, 2)]


def test_yolo_layout(tmp_path):
    export_dataset(pairs(2), tmp_path / "out", "yolo")
    record = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert record["names"] == {0: "cell", 1: "nucleus"}
    images = sorted((tmp_path / "out" / record["train"]).iterdir())
    labels = sorted((tmp_path / "out" / "labels" / "train").iterdir())
    assert [path.stem for path in images] == [path.stem for path in labels] == ["000000", "000001"]
    lines = labels[0].read_text().splitlines()
    assert {line[0] for line in lines} == {"0", "1"}
    for line in lines:
        numbers = line.split()[1:]
        assert len(numbers) >= 8
        assert len(numbers) % 2 == 0
        assert all(0 <= float(value) <= 1 for value in numbers)


def test_voc_layout(tmp_path):
    dataset = pairs(3)
    export_dataset(dataset, tmp_path / "out", "voc")
    names = (tmp_path / "out" / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert names == [sample.name for sample in dataset]
    for sample in dataset:
        assert torch.equal(read_mask(tmp_path / "out" / "SegmentationClass" / f"{sample.name}.png"), sample.mask)
        assert read_image(tmp_path / "out" / "JPEGImages" / f"{sample.name}.jpg").shape == sample.pixels.shape
    assert (tmp_path / "out" / "labelmap.txt").read_text().splitlines()[1] == "cell:128,0,0::"


def test_webdataset_reads_it_back(tmp_path):
    import webdataset

    dataset = pairs(4, names=["a.b", "c d", "a.b", "e"])
    export_dataset(dataset, tmp_path / "50%d", "webdataset")
    (shard,) = (tmp_path / "50%d").glob("*.tar")
    assert shard.name == "pairs-000000.tar"
    rows = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [row["__key__"] for row in rows] == ["a_b", "c_d", "a_b-2", "e"]
    for row, sample in zip(rows, dataset, strict=True):
        (tmp_path / "one.png").write_bytes(row["image.png"])
        assert torch.equal(read_image(tmp_path / "one.png"), sample.pixels)
        (tmp_path / "one.png").write_bytes(row["mask.png"])
        assert torch.equal(read_mask(tmp_path / "one.png"), sample.mask)


def test_webdataset_is_the_same_file_every_time(tmp_path):
    for name in ("one", "two"):
        export_dataset(pairs(), tmp_path / name, "webdataset")
    assert (tmp_path / "one" / "pairs-000000.tar").read_bytes() == (tmp_path / "two" / "pairs-000000.tar").read_bytes()
    with tarfile.open(tmp_path / "one" / "pairs-000000.tar") as archive:
        assert len(archive.getnames()) == 10


def test_huggingface_reads_it_back(tmp_path):
    import datasets
    import numpy as np

    dataset = pairs()
    export_dataset(dataset, tmp_path / "out", "huggingface")
    table = datasets.load_from_disk(str(tmp_path / "out"))
    assert table["name"][:] == [sample.name for sample in dataset]
    for row, sample in zip(table, dataset, strict=True):
        assert (np.array(row["image"]) == sample.pixels.permute(1, 2, 0).numpy()).all()
        assert (np.array(row["mask"]) == sample.mask.numpy()).all()


@pytest.mark.parametrize(("format", "module"), [("webdataset", "webdataset"), ("huggingface", "datasets")])
def test_missing_extra_says_what_to_install(tmp_path, monkeypatch, format, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught:
        export_dataset(pairs(), tmp_path / "out", format)
    assert caught.value.hint == f"pip install 'gsegkit[{format}]'"
    assert list(tmp_path.iterdir()) == []


def test_names_from_sub_folders_stay_apart(tmp_path):
    export_dataset(pairs(3, names=["a/x", "b/x", "A/x"]), tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out" / "images").iterdir()} == {"a_x", "b_x", "A_x-2"}


class Failing(LabelledDataset):
    classes = ("background", "thing")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 2:
            raise DataError("the disk of the source broke")
        return Sample(str(index), torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("format", ["png", "coco", "yolo", "voc"])
def test_a_failure_leaves_nothing(tmp_path, format):
    with pytest.raises(DataError, match="source broke"):
        export_dataset(Failing(), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


def test_stop_leaves_nothing_and_a_killed_export_is_replaced(tmp_path):
    ctx = RunContext(tmp_path)
    ctx.stop.set()
    with pytest.raises(InterruptedRunError):
        export_dataset(pairs(), tmp_path / "out", "png", ctx)
    assert list(tmp_path.iterdir()) == []
    for name, out in ((".123-0123abcd.tmp", "out"), (".124-0123abcd.tmp", "other"), (".out.tmp", "out")):
        (tmp_path / name / "content").mkdir(parents=True)
        (tmp_path / name / "for.txt").write_text(out)
    export_dataset(pairs(), tmp_path / "out", "png")
    # what a killed export of `out` left is gone; another export's folder, and one that the user called so, are not
    assert sorted(path.name for path in tmp_path.iterdir()) == [".124-0123abcd.tmp", ".out.tmp", "out"]
    assert not (tmp_path / "out" / "images" / "half.png").exists()


def test_existing_targets(tmp_path):
    (tmp_path / "empty").mkdir()
    export_dataset(pairs(1), tmp_path / "empty")
    with pytest.raises(DataError, match="not empty"):
        export_dataset(pairs(1), tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        export_dataset(pairs(1), tmp_path / "file")


def test_unknown_format_and_empty_set(tmp_path):
    with pytest.raises(ConfigError, match="'tfrecord'"):
        export_dataset(pairs(1), tmp_path / "out", "tfrecord")
    with pytest.raises(DataError, match="empty"):
        export_dataset(pairs(0), tmp_path / "out")


@pytest.mark.parametrize(
    ("formats", "base"), [(PREDICTION_FORMATS, PredictionWriter), (DATASET_FORMATS, DatasetWriter)]
)
def test_every_format_has_a_writer_of_its_own(formats, base):
    writers = [load_writer(place) for place in formats.values()]
    assert all(issubclass(writer, base) for writer in writers)
    assert len({writer.__name__ for writer in writers}) == len(formats)
