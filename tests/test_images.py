import contextlib
import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit.colours import class_palette, overlay
from gsegkit.errors import DataError
from gsegkit.images import (
    centre_crop,
    fit_pixels,
    grid,
    histogram_peaks,
    image_size,
    list_images,
    luma,
    otsu,
    png_bytes,
    read_image,
    read_mask,
    shrunk_size,
    to_images,
    to_pixels,
    unfit_logits,
    write_png,
)


def test_pixels_survive_the_way_to_floats_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    assert torch.equal(to_pixels(to_images(pixels)), pixels)
    assert to_images(pixels).aminmax() == (-1, 1)
    assert to_pixels(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PHOTO = Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_formats_are_told_by_content(tmp_path, format):
    (tmp_path / "x.png").write_bytes(encode(PHOTO, format))
    assert read_image(tmp_path / "x.png").shape == (3, 40, 30)


BAD = {
    "zero bytes": (b"", "is empty"),
    "text": (b"hello", "cannot read image"),
    "a web page": (b"<!DOCTYPE html><html>", "cannot read image"),
    "half a PNG": (encode(PHOTO, "PNG")[:900], "is damaged"),
    "a PNG header only": (encode(PHOTO, "PNG")[:30], "cannot read image|is damaged"),
    "half a JPEG": (encode(PHOTO, "JPEG")[:-300], "is damaged"),
    "a disguised EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot read image"),
    "a gigantic PNG": (encode(Image.new("1", (20000, 3000)), "PNG"), "20000 x 3000"),
    "a long PNG": (encode(Image.new("1", (17000, 2)), "PNG"), "17000 x 2"),
    "a TIFF of a rare layout": (
        encode(PHOTO, "TIFF").replace(b"\x06\x01\x03\0\x01\0\0\0\x02", b"\x06\x01\x03\0\x01\0\0\0\x77"),
        "a TIFF of a layout",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_named(tmp_path, name):
    data, message = BAD[name]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert "bad.png" in caught.value.message
    assert caught.value.hint
    with contextlib.suppress(DataError):  # a header may be good while the pixels are not; nothing else may leave
        assert len(image_size(path)) == 2


def test_mutated_images_raise_one_kind_of_error(tmp_path):
    rng = np.random.RandomState(1)
    path = tmp_path / "m.png"
    for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        good = encode(PHOTO, format)
        for _ in range(60):
            data = bytearray(good)
            for _ in range(rng.randint(1, 6)):
                data[rng.randint(len(data))] = rng.randint(256)
            path.write_bytes(data[: rng.randint(1, len(data) + 1)] if rng.rand() < 0.3 else data)
            with contextlib.suppress(DataError):
                assert read_image(path).dtype == torch.uint8


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="cannot read image"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(DataError, match="does not exist"):
        list_images(tmp_path / "absent")
    with pytest.raises(DataError, match="contains no image"):
        list_images(tmp_path)
    (tmp_path / "f").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        list_images(tmp_path / "f")


def test_files_are_listed_in_order_with_sub_folders_and_without_hidden_ones(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.webp", ".hidden.png", ".git/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)] == ["a.JPG", "b.png", "sub/c.webp"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_and_the_header_agrees(tmp_path, orientation):
    image = Image.new("RGB", (30, 40), "white")
    image.paste((255, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "r.png"
    path.write_bytes(encode(image, "PNG", exif=exif))
    pixels = read_image(path)
    assert image_size(path) == tuple(pixels.shape[1:]) == ((40, 30) if orientation < 5 else (30, 40))
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert pixels[:, corner[orientation][0], corner[orientation][1]].tolist() == [255, 0, 0]


def test_transparency_is_composited_on_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    (tmp_path / "t.png").write_bytes(encode(image, "PNG"))
    pixels = read_image(tmp_path / "t.png")
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert pixels[:, 2, 2].tolist() == [255, 255, 255]


def test_masks_keep_their_numbers(tmp_path):
    mask = torch.tensor([[0, 1, 2], [255, 7, 0]], dtype=torch.uint8)
    write_png(tmp_path / "grey.png", mask)
    write_png(tmp_path / "palette.png", mask, class_palette())
    assert torch.equal(read_mask(tmp_path / "grey.png"), mask)
    assert torch.equal(read_mask(tmp_path / "palette.png"), mask)
    (tmp_path / "bits.png").write_bytes(encode(Image.fromarray(mask.numpy() > 1), "PNG"))
    assert read_mask(tmp_path / "bits.png").unique().tolist() == [0, 255]
    (tmp_path / "rgbgrey.png").write_bytes(encode(Image.fromarray(mask.numpy()).convert("RGB"), "PNG"))
    assert torch.equal(read_mask(tmp_path / "rgbgrey.png"), mask)
    (tmp_path / "colour.png").write_bytes(encode(PHOTO, "PNG"))
    with pytest.raises(DataError, match="is a colour image"):
        read_mask(tmp_path / "colour.png")


def test_png_round_trip(tmp_path):
    pixels = torch.randint(0, 256, (3, 9, 5), dtype=torch.uint8)
    write_png(tmp_path / "p.png", pixels)
    assert torch.equal(read_image(tmp_path / "p.png"), pixels)
    assert png_bytes(pixels)[:4] == b"\x89PNG"
    assert os.listdir(tmp_path) == ["p.png"]


@pytest.mark.parametrize(
    ("rule", "shape"), [("squash", (16, 16)), ("crop", (16, 32)), ("pad", (16, 16)), ("native", (20, 40))]
)
def test_fit_rules_and_the_way_back(rule, shape):
    pixels = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    pixels[..., 10:30] = 200
    fitted = fit_pixels(pixels, (16, 16), rule)
    assert fitted.shape[-2:] == shape
    logits = torch.stack([100 - fitted[:, 0].float(), fitted[:, 0].float() - 100], 1)
    back = unfit_logits(logits, (20, 40), (16, 16), rule)
    assert back.shape == (1, 2, 20, 40)
    agree = (back.argmax(1) == (pixels[:, 0] > 100)).float().mean()
    assert agree >= 0.95


def test_unknown_fit_rule():
    with pytest.raises(ValueError, match="fit rule"):
        fit_pixels(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), (2, 2), "stretch")


def test_pictures():
    pixels = torch.full((5, 3, 4, 6), 100, dtype=torch.uint8)
    masks = torch.zeros(5, 4, 6, dtype=torch.uint8)
    masks[:, 0, 0], masks[:, 1, 1] = 1, 255
    drawn = overlay(pixels, masks)
    assert (drawn[:, :, 2, 2] == 100).all()
    assert drawn[0, :, 0, 0].tolist() == [114, 50, 50]
    assert drawn[0, :, 1, 1].tolist() == [178, 178, 178]
    assert grid(pixels, 2).shape == (3, 3 * 6 - 2, 2 * 8 - 2)
    assert class_palette(3).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert centre_crop(torch.arange(25).view(5, 5), (1, 1)).item() == 12


# ---- numbers of a picture ------------------------------------------------------------------------------------------


def test_shrunk_size_keeps_the_aspect_and_never_grows():
    assert shrunk_size(100, 400, 200) == (50, 200)
    assert shrunk_size(30, 20, 200) == (30, 20)
    assert shrunk_size(1, 1000, 10) == (1, 10)


def test_luma_weighs_the_channels():
    image = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert luma(image).item() == pytest.approx(0.299)
    assert luma(image, (0.5, 0.25, 0.25)).item() == 0.5
    pixels = torch.tensor([0, 255, 0], dtype=torch.uint8).view(3, 1, 1)
    assert luma(pixels).shape == (1, 1, 1)
    assert luma(pixels).item() == pytest.approx(0.587 * 255)


def test_otsu_is_the_split_of_greatest_variance_between():
    values = torch.cat([torch.randn(700) * 8 + 60, torch.randn(300) * 12 + 180]).clamp(0, 255).long()
    counts = torch.bincount(values, minlength=256).double()
    split = int(otsu(counts))

    def between(t):
        above = values > t
        share = float(above.double().mean())
        if share in (0, 1):
            return 0.0
        return share * (1 - share) * float(values[above].double().mean() - values[~above].double().mean()) ** 2

    assert between(split) == pytest.approx(max(between(t) for t in range(255)))
    assert int(otsu(torch.tensor([3.0, 0, 0, 5.0], dtype=torch.float64))) == 0  # the first of equal splits
    assert int(otsu(torch.tensor([9.0, 9, 9, 1, 0, 0, 0, 4], dtype=torch.float64))) == 3  # the last bin counts


def test_histogram_peaks_golden_numbers():
    two_tone = torch.full((3, 64, 64), 0.8)
    two_tone[:, :, 32:] = -0.8
    noise = 0.2 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = [torch.zeros(3, 64, 64), two_tone, torch.ones(3, 64, 64), torch.full((3, 64, 64), 1.2), noise]
    assert histogram_peaks(torch.stack(images)).tolist() == [10, 10, 11, 12, 1]
    assert histogram_peaks(torch.zeros(0, 3, 8, 8)).shape == (0,)
