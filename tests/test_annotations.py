"""RLE, polygons and the annotations of other tools, against hand-made values and an independent fill."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from gsegkit.annotation.polygons import mask_polygons
from gsegkit.annotation.rle import compress_runs, decode_rle, encode_rle, expand_runs
from gsegkit.colours import display_palette
from gsegkit.errors import DataError
from gsegkit.exports.coco import CocoFile, coco_annotations, coco_categories
from gsegkit.exports.places import unique_name
from gsegkit.exports.writers import object_classes
from gsegkit.exports.yolo import yolo_lines


def blobs(seed, height=33, width=47, share=0.5):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share


def fill(polygons, shape):
    """Even-odd fill by pixel centres, written without any polygon library."""
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            crosses = (y0 <= ys) != (y1 <= ys)
            inside ^= crosses & (xs < x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    return inside


def test_runs_by_hand():
    # 5 bits a character from '0' on, low bits first; from the fourth run on the difference to two runs before
    assert compress_runs([1, 3]) == "13"
    assert compress_runs([20]) == "d0"  # 20 = 10100b would read as negative, so a second character says it is not
    assert compress_runs([5, 2, 3, 1]) == "523O"  # 1 - 2 = -1 = 11111b


def test_rle_by_hand():
    mask = torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8)
    assert encode_rle(mask) == {"size": [2, 2], "counts": "13"}
    assert encode_rle(torch.ones(2, 3, dtype=torch.uint8)) == {"size": [2, 3], "counts": "06"}
    assert encode_rle(torch.zeros(2, 3, dtype=torch.uint8)) == {"size": [2, 3], "counts": "6"}


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_rle_round_trip(share):
    for seed in range(5):
        mask = blobs(seed, share=share)
        assert torch.equal(decode_rle(encode_rle(mask)), mask)


def test_runs_round_trip_on_long_runs():
    runs = [0, 7, 100_000, 3, 12, 65_536, 1, 1, 31, 32, 33]
    assert expand_runs(compress_runs(runs)) == runs


def test_damaged_rle_is_refused():
    with pytest.raises(DataError, match="add up"):
        decode_rle({"size": [2, 2], "counts": "19"})


def test_rle_equals_pycocotools():
    from pycocotools import mask as reference

    for seed in range(20):
        mask = blobs(seed, share=seed / 19)
        expected = reference.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        ours = encode_rle(mask)
        assert ours["counts"].encode() == expected["counts"]
        assert ours["size"] == list(expected["size"])


def test_polygon_of_one_pixel_and_of_a_frame():
    mask = torch.zeros(4, 5, dtype=torch.uint8)
    mask[1, 2] = 1
    (corners,) = mask_polygons(mask)
    assert sorted(map(tuple, corners.tolist())) == [(2, 1), (2, 2), (3, 1), (3, 2)]
    frame = torch.ones(5, 5, dtype=torch.uint8)
    frame[1:4, 1:4] = 0
    (polygon,) = mask_polygons(frame)  # one polygon although there is a hole
    assert np.array_equal(fill([polygon], (5, 5)), frame.bool().numpy())


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9, 1.0])
def test_filling_the_polygons_gives_the_mask_back(share):
    for seed in range(4):
        mask = blobs(seed, share=share)
        assert np.array_equal(fill(mask_polygons(mask), mask.shape), mask.numpy())


def test_polygons_agree_with_pillow_on_a_disc_with_holes():
    picture = Image.new("L", (64, 64))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 4, 56, 60), fill=1)
    draw.ellipse((20, 20, 28, 28), fill=0)
    draw.ellipse((36, 30, 46, 44), fill=0)
    mask = torch.from_numpy(np.array(picture))
    polygons = mask_polygons(mask)
    assert len(polygons) == 1
    assert np.array_equal(fill(polygons, mask.shape), mask.bool().numpy())


def test_corner_touching_pixels_are_two_regions():
    assert len(mask_polygons(torch.eye(2, dtype=torch.uint8))) == 2


def test_object_classes():
    assert object_classes(("a", "b")) == {1: "b"}
    assert object_classes(("Background", "b", "c")) == {1: "b", 2: "c"}
    assert object_classes(("cluster 0", "cluster 1", "cluster 2")) == {0: "cluster 0", 1: "cluster 1", 2: "cluster 2"}


def test_yolo_lines_number_objects_from_zero_and_leave_ignored_pixels_out():
    mask = torch.zeros(4, 8, dtype=torch.uint8)
    mask[0:2, 0:4] = 2
    mask[3, 7] = 255
    (line,) = yolo_lines(mask, ("background", "a", "b"))
    number, *numbers = line.split()
    points = np.array(numbers, dtype=float).reshape(-1, 2)
    assert number == "1"
    assert sorted(map(tuple, points.tolist())) == [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)]


def test_coco_annotation_values():
    mask = torch.zeros(6, 7, dtype=torch.uint8)
    mask[2:4, 3:6] = 1
    mask[5, 6] = 255
    (annotation,) = coco_annotations(mask, image_id=4, first_id=9, classes=("background", "cell"))
    assert annotation["bbox"] == [3, 2, 3, 2]
    assert annotation["area"] == 6
    assert (annotation["id"], annotation["image_id"], annotation["category_id"]) == (9, 4, 1)
    assert torch.equal(decode_rle(annotation["segmentation"]), mask == 1)


def test_coco_ids_are_never_zero():
    classes = ("cluster 0", "cluster 1", "cluster 2")
    assert [row["id"] for row in coco_categories(classes)] == [1, 2, 3]
    found = coco_annotations(torch.tensor([[0, 1]], dtype=torch.uint8), 1, 1, classes)
    assert [row["category_id"] for row in found] == [1, 2]


def test_coco_file_is_json_and_appears_only_when_closed(tmp_path):
    file = CocoFile(tmp_path / "a.json", ("background", "x"))
    file.add('ä"b.png', torch.tensor([[0, 1]], dtype=torch.uint8))
    file.add("empty.png", torch.zeros(1, 2, dtype=torch.uint8))
    assert not (tmp_path / "a.json").exists()
    file.close()
    record = json.loads((tmp_path / "a.json").read_text())
    assert [image["file_name"] for image in record["images"]] == ['ä"b.png', "empty.png"]
    assert len(record["annotations"]) == 1
    dropped = CocoFile(tmp_path / "b.json", ("background", "x"))
    dropped.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_display_colours_differ_from_each_other():
    colours = {tuple(colour) for colour in display_palette()[:13].tolist()}
    assert len(colours) == 13
    assert display_palette()[0].tolist() == [0, 0, 0]
    assert display_palette()[255].tolist() == [255, 255, 255]


def test_unique_names_are_safe_and_differ_without_case():
    taken = set()
    assert [unique_name(name, taken) for name in ("a/b.c", "A_b_c", "../..", "", "é")] == [
        "a_b_c",
        "A_b_c-2",
        "image",
        "image-2",
        "é",
    ]
