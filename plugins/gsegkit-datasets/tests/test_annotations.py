"""COCO and YOLO annotations as ground truth: our own exports come back, and files as other people write them."""

import json
import shutil

import gsegkit_datasets
import numpy as np
import pytest
import torch

from gsegkit.annotation.polygons import fill_polygon, mask_polygons
from gsegkit.annotation.rle import encode_rle
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import DataError
from gsegkit.images import write_png
from gsegkit.plugins import Registry

REGISTRY = Registry()
REGISTRY.add(gsegkit_datasets, "gsegkit-datasets")


def read(folder, **options):
    return REGISTRY.build("dataset", "folder", options).labelled(folder)


def blobs(seed, classes, size=(37, 53)):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, classes, (size[0] // 4 + 1, size[1] // 4 + 1), generator=generator)
    return coarse.repeat_interleave(4, 0).repeat_interleave(4, 1)[: size[0], : size[1]].to(torch.uint8)


def picture(path, height=20, width=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    write_png(path, torch.randint(0, 256, (3, height, width), generator=generator).to(torch.uint8))


def box(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def coco(folder, images, annotations, categories=((1, "cat"), (2, "dog")), name="annotations.json"):
    table = {
        "images": images,
        "annotations": [{"id": i, "iscrowd": 0, **row} for i, row in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))
    return path


@pytest.mark.parametrize("format", ["coco", "yolo"])
@pytest.mark.parametrize("classes", [("background", "leaf"), ("background", "a", "b", "c"), ("a", "b", "c")])
def test_what_we_export_comes_back_pixel_by_pixel(tmp_path, format, classes):
    from gsegkit.exports.datasets import export_dataset

    masks = torch.stack([blobs(seed, len(classes)) for seed in range(3)])
    masks[2] = 0  # an image without an object
    pairs = MemoryDataset(torch.zeros(3, 3, 37, 53, dtype=torch.uint8), masks, classes)
    export_dataset(pairs, tmp_path / "out", format)
    found = read(tmp_path / "out")
    assert found.classes == classes
    assert [sample.name for sample in found] == ["000000", "000001", "000002"]
    assert all(torch.equal(sample.mask, mask) for sample, mask in zip(found, masks, strict=True))
    assert f"{format.upper()} annotations: 3 images" in found.notes[0]


def test_ignored_pixels_come_back_where_nothing_is_background(tmp_path):
    from gsegkit.exports.datasets import export_dataset

    mask = blobs(5, 3)[None]
    mask[:, :9] = 255
    pairs = MemoryDataset(torch.zeros(1, 3, 37, 53, dtype=torch.uint8), mask, ("a", "b", "c"))
    export_dataset(pairs, tmp_path / "out", "coco")
    assert torch.equal(read(tmp_path / "out")[0].mask, mask[0])


def test_coco_as_others_write_it(tmp_path):
    """Gaps in the categories, nested and absolute names, several outlines, crowds of both forms, images without any."""
    for path in ("a.png", "sub/b.png", "deep/er/c.png", "unlisted.png"):
        picture(tmp_path / "photos" / path)
    crowd = torch.zeros(20, 30, dtype=torch.uint8)
    crowd[:, 5:] = 1
    flat = crowd.numpy().ravel(order="F")
    runs = [int((flat == 0).sum()), int(flat.sum())]
    coco(
        tmp_path,
        [
            {"id": 70, "file_name": "C:\\data\\photos\\a.png", "width": 30, "height": 20},
            {"id": 5, "file_name": "/home/somebody/photos/sub/b.png", "width": 30, "height": 20},
            {"id": 6, "file_name": "../../../../etc/deep/er/c.png"},
        ],
        [
            {"image_id": 70, "category_id": 90, "segmentation": [box(2, 2, 6, 6)]},
            {"image_id": 70, "category_id": 3, "segmentation": [box(0, 0, 10, 10), box(20, 10, 30, 20), [1, 1, 2, 2]]},
            {"image_id": 5, "category_id": 3, "segmentation": {"size": [20, 30], "counts": runs}, "iscrowd": 1},
            {"image_id": 5, "category_id": 90, "segmentation": encode_rle(crowd == 0)},
            {"image_id": 70, "category_id": 3, "segmentation": [[1, 1, 5, 5]]},
        ],
        categories=((90, "dog"), (3, "cat")),
        name="annotations/instances.json",
    )
    found = read(tmp_path)
    assert found.classes == ("background", "cat", "dog")
    by_name = {sample.name: sample.mask for sample in found}
    assert list(by_name) == ["a", "b", "c"]
    want = torch.zeros(20, 30, dtype=torch.uint8)
    want[:10, :10] = want[10:, 20:] = 1
    want[2:6, 2:6] = 2  # the smaller object lies on the larger one, whatever comes first in the file
    assert torch.equal(by_name["a"], want)
    assert torch.equal(by_name["b"], torch.where(crowd == 1, 1, 2).to(torch.uint8))
    assert by_name["c"].max() == 0
    assert found.notes == (
        "COCO annotations: 3 images, 4 objects, 2 classes; background alone: 1 image",
        "left out, of fewer than 3 points: 1 outline",
        "left out, not listed in 'instances.json': 1 image",
    )
    assert found.sources == (tmp_path / "annotations" / "instances.json",)


def test_the_fill_agrees_with_cocos_own_code():
    """Beside outlines along pixel borders, where both are exact, half a pixel of the border may differ."""
    coco_mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.RandomState(0)
    for _ in range(20):
        angles = np.sort(rng.rand(9)) * 2 * np.pi
        points = np.stack([30 + 25 * rng.rand() * np.cos(angles) + 3, 25 + 20 * np.sin(angles)], 1)
        ours = fill_polygon(points, (50, 64))
        theirs = coco_mask.decode(coco_mask.frPyObjects([points.ravel().tolist()], 50, 64))[..., 0].astype(bool)
        border = np.zeros_like(ours)
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            border |= np.roll(ours, shift, axis) != ours
        assert not ((ours != theirs) & ~border).any()
    mask = blobs(3, 2)
    filled = np.zeros(mask.shape, bool)
    for polygon in mask_polygons(mask):
        filled |= fill_polygon(polygon, tuple(mask.shape))
    assert np.array_equal(filled, mask.numpy() == 1)


@pytest.mark.parametrize(
    ("points", "count"),
    [
        ([(-5, -5), (50, -5), (50, 50), (-5, 50)], 600),  # around the image
        ([(0, 0), (30, 0), (0, 0)], 0),
        ([(40, 0), (50, 0), (50, 20), (40, 20)], 0),  # beside it
        ([(1e300, 0), (0, 0), (0, 20), (1e300, 20)], 600),
    ],
)
def test_outlines_beyond_the_image_are_cut(points, count):
    assert fill_polygon(np.array(points, float), (20, 30)).sum() == count


BAD_COCO = {
    "another category": ([{"image_id": 1, "category_id": 8, "segmentation": [box(0, 0, 3, 3)]}], "the category 8"),
    "another image": ([{"image_id": 9, "category_id": 1, "segmentation": [box(0, 0, 3, 3)]}], "not listed"),
    "a box": ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 3], "segmentation": []}], "a box and no outline"),
    "no segmentation": ([{"image_id": 1, "category_id": 1}], "a box and no outline"),
    "odd numbers": ([{"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6, 7]]}], "x1, y1, x2"),
    "text": ([{"image_id": 1, "category_id": 1, "segmentation": [["a"] * 6]}], "x1, y1, x2"),
    "runs without a size": ([{"image_id": 1, "category_id": 1, "segmentation": {"counts": [3]}}], "run lengths"),
    "an id that is a text": ([{"image_id": "1", "category_id": 1, "segmentation": [box(0, 0, 3, 3)]}], "whole number"),
}


@pytest.mark.parametrize("name", BAD_COCO)
def test_damaged_coco_files_are_refused_in_a_sentence(tmp_path, name):
    annotations, message = BAD_COCO[name]
    picture(tmp_path / "a.png")
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}], annotations)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "annotations.json" in caught.value.message


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [20, 30], "counts": [3, 4]},
        {"size": [20, 30], "counts": "oooooooooooooooooooooo"},
        {"size": [20, 30], "counts": "é"},
        {"size": [20, 30], "counts": [700, -100]},
        {"size": [30, 20], "counts": [600]},
        {"size": [10**9, 10**9], "counts": [10**18]},
    ],
)
def test_damaged_runs_name_their_annotation(tmp_path, segmentation):
    picture(tmp_path / "a.png")
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}], [{"image_id": 1, "category_id": 1, "segmentation": segmentation}])
    with pytest.raises(DataError, match=r"annotation 0 of .*annotations.json"):
        read(tmp_path)[0]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_coordinates_far_beyond_the_image_are_cut(tmp_path):
    picture(tmp_path / "a.png")
    row = {
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[-1e308, -1e308, 1e308, -1e308, 1e308, 1e308, -1e308, 1e308]],
    }
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}], [row])
    assert read(tmp_path)[0].mask.unique().tolist() == [1]


def test_images_that_do_not_fit_the_annotations(tmp_path):
    picture(tmp_path / "a.png")
    path = coco(tmp_path, [{"id": 1, "file_name": "a.png", "width": 20, "height": 30}], [])
    with pytest.raises(DataError, match="is for 20 x 30, the image is 30 x 20"):
        read(tmp_path)
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "../../secret.png"}], [])
    picture(tmp_path.parent / "secret.png")
    with pytest.raises(DataError, match=r"lacks 1 image of "):  # a name never becomes a path
        read(tmp_path)
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}], [])
    with pytest.raises(DataError, match="twice"):
        read(tmp_path)
    picture(tmp_path / "x" / "b.png")
    picture(tmp_path / "y" / "b.png")
    coco(tmp_path, [{"id": 1, "file_name": "b.png"}], [])
    with pytest.raises(DataError, match="may be"):
        read(tmp_path)
    shutil.copy(path, tmp_path / "second.json")
    with pytest.raises(DataError, match="several files of COCO"):
        read(tmp_path)
    coco(tmp_path, [{"id": 1, "file_name": "x/b.png"}, {"id": 2, "file_name": "y/b.png"}], [])
    assert [s.name for s in read(tmp_path, annotations="annotations.json")] == ["x/b", "y/b"]


def test_masks_win_and_classes_are_matched_by_name(tmp_path):
    picture(tmp_path / "a.png")
    row = {"image_id": 1, "category_id": 2, "segmentation": [box(0, 0, 10, 10)]}
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}], [row])
    (tmp_path / "classes.txt").write_text("background\ndog\nhorse\ncat\n")
    found = read(tmp_path)
    assert found.classes == ("background", "dog", "horse", "cat")
    assert found[0].mask[:10, :10].unique().tolist() == [1]
    with pytest.raises(DataError, match="'cat', which is not among"):
        read(tmp_path, classes=("background", "dog"))
    write_png(tmp_path / "a_mask.png", torch.full((20, 30), 3, dtype=torch.uint8))
    assert read(tmp_path)[0].mask.unique().tolist() == [3]


def yolo(folder, labels, where="labels/train", images="images/train"):
    for name, lines in labels.items():
        picture(folder / images / f"{name}.png")
        if lines is not None:
            path = folder / where / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")


SQUARE = "0 0 0.5 0 0.5 0.5 0 0.5"  # the upper left quarter


@pytest.mark.parametrize(
    ("where", "images", "names"),
    [
        ("labels/train", "images/train", "data.yaml"),
        ("train/labels", "train/images", "data.yaml"),  # as web services export it
        ("labels", "photos", "classes.txt"),
        ("", "", "classes.txt"),  # a text beside each image
    ],
)
def test_yolo_in_its_layouts(tmp_path, where, images, names):
    yolo(tmp_path, {"a": [f"1 {SQUARE}"], "b": [], "c": None}, where, images)
    (tmp_path / names).write_text("cat\ndog\n" if names == "classes.txt" else "names: {0: cat, 1: dog, 5: cow}\n")
    found = read(tmp_path)
    assert found.classes[:3] == ("background", "cat", "dog")
    want = torch.zeros(20, 30, dtype=torch.uint8)
    want[:10, :15] = 2
    assert torch.equal(found[0].mask, want)
    assert found[1].mask.max() == found[2].mask.max() == 0
    assert "3 images, 1 object," in found.notes[0]
    assert "background alone: 2 images" in found.notes[0]


def test_yolo_of_one_split_finds_the_names_above(tmp_path):
    yolo(tmp_path, {"a": [f"1 {SQUARE}"]}, "train/labels", "train/images")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    assert read(tmp_path / "train").classes == ("background", "cat", "dog")


def test_splits_may_repeat_names_and_stray_labels_are_told(tmp_path):
    yolo(tmp_path, {"a": [f"0 {SQUARE}"]})
    yolo(tmp_path, {"a": None}, images="images/val")
    (tmp_path / "labels" / "train" / "lost.txt").write_text(f"0 {SQUARE}\n")
    found = read(tmp_path)
    assert [sample.name for sample in found] == ["images/train/a", "images/val/a"]
    assert found.notes[1] == "left out, without an image: 1 label file"
    assert found.classes == ("background", "class-1")


BAD_YOLO = {
    "a box": ("0 0.5 0.5 0.2 0.2", "is a box"),
    "pixels": ("0 0 0 12 0 12 9", "the coordinate 12"),
    "nan": ("0 nan 0 0.2 0 0.2 0.9", "the coordinate nan"),
    "a score at its end": (f"0 {SQUARE} 0.9", "9 numbers"),
    "two points": ("0 0.1 0.1 0.2 0.2 0.3", "5 numbers"),
    "a caption": ("a photograph of a cat", "is a box|no YOLO label"),
    "a name": (f"cat {SQUARE}", "no YOLO label"),
    "a class beyond the names": (f"7 {SQUARE}", "does not name"),
    "a negative class": (f"-1 {SQUARE}", "numbers after its class"),
    "a huge class": (f"99999 {SQUARE}", "the class 99999"),
}


@pytest.mark.parametrize("name", BAD_YOLO)
def test_damaged_labels_name_file_and_line(tmp_path, name):
    line, message = BAD_YOLO[name]
    yolo(tmp_path, {"a": [f"0 {SQUARE}", line]})
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "line 2 of" in caught.value.message
    assert "a.txt" in caught.value.message


def test_a_changed_annotation_is_another_data_set(tmp_path):
    from gsegkit.engine.identity import labelled_identity

    yolo(tmp_path / "d", {"a": [f"0 {SQUARE}"]})
    before = labelled_identity(tmp_path / "d", read(tmp_path / "d"), tmp_path)
    (tmp_path / "d" / "labels" / "train" / "a.txt").write_text("0 0 0 1 0 1 1\n")
    after = labelled_identity(tmp_path / "d", read(tmp_path / "d"), tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"labels/train/a.txt"}
