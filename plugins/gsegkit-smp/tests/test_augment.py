import math

import torch
from gsegkit_smp.augment import affine_maps, augment, hue_matrices, relight, warp
from gsegkit_smp.config import UnetConfig

from gsegkit.images import luma
from gsegkit.types import IGNORE

NONE = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "shift": 0.0, "colour": 0.0, "noise": 0.0}


def config(**options):
    return UnetConfig(**{**NONE, **options})


def ramps(count=8, height=40, width=56):
    """Images that equal their masks: a ramp to the right for even rows, down for odd ones."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    masks = torch.stack([x if i % 2 == 0 else y for i in range(count)]).to(torch.uint8)
    images = (masks.float() / 64).unsqueeze(1).repeat(1, 3, 1, 1)
    return images, masks


def test_flips_move_image_mask_and_weights_together_exactly():
    images, masks = ramps()
    weights = masks.float()
    changed, moved, weighed = augment(images, masks, weights, config(flip=0.5, flip_vertical=0.5), seed=1)
    assert torch.equal(changed[:, 0] * 64, moved.float())
    assert torch.equal(weighed, moved.float())
    flipped = [not torch.equal(a, b) for a, b in zip(moved, masks, strict=True)]
    assert any(flipped)
    assert not all(flipped)


def test_warps_move_image_and_mask_to_the_same_place():
    images, masks = ramps(16)
    changed, moved, _ = augment(images, masks, None, config(rotate=30, scale=0.5, shift=0.2), seed=2)
    inside = moved != IGNORE
    difference = (changed[:, 0] * 64 - moved.float()).abs()[inside]
    assert difference.max() <= 0.5 + 1e-3  # the mask is the nearest pixel, the image the exact place
    assert 0.02 < (~inside).float().mean() < 0.6
    assert not torch.equal(moved, masks)


def test_uncovered_pixels_are_ignored_and_nothing_else():
    images, masks = ramps(2, 40, 40)
    half = torch.tensor([[1.0, 0, 1.0], [0, 1, 0]]).repeat(2, 1, 1)  # half a picture to the left
    _, moved, weights = warp(images, masks, torch.ones(2, 40, 40), half)
    assert torch.equal(moved[:, :, :20], masks[:, :, 20:])
    assert (moved[:, :, 20:] == IGNORE).all()
    assert weights.shape == masks.shape


def test_rotation_keeps_right_angles_in_wide_images():
    # a quarter turn of a wide picture: what was 10 pixels right of the middle is then 10 pixels above it
    options = config(rotate=90)
    theta = affine_maps(torch.tensor([[1.0], [0], [0], [0]]), options, (40, 80))
    masks = torch.zeros(1, 40, 80, dtype=torch.uint8)
    masks[0, 19:21, 49:51] = 1
    _, moved, _ = warp(torch.zeros(1, 3, 40, 80), masks, None, theta)
    rows, columns = torch.nonzero(moved[0] == 1, as_tuple=True)
    assert len(rows) == 4
    assert abs(abs(float(rows.float().mean()) - 19.5) - 10) < 0.1
    assert abs(float(columns.float().mean()) - 39.5) < 0.1


def test_augmentation_is_a_function_of_the_seed():
    images, masks = ramps()
    options = UnetConfig(hue=20, blur=1.0)
    one, two, other = (augment(images, masks, None, options, seed) for seed in (5, 5, 6))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    assert one[0].abs().max() <= 1


def test_colours_noise_and_blur_leave_masks_alone():
    images, masks = ramps()
    changed, same, _ = augment(images, masks, None, config(colour=0.5, hue=90, noise=0.2, blur=2.0), seed=7)
    assert torch.equal(same, masks)
    assert changed.shape == images.shape
    assert not torch.allclose(changed, images)


def test_hue_turns_the_colour_circle():
    third = hue_matrices(torch.tensor([2 * math.pi / 3]))[0]
    torch.testing.assert_close(third @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(third @ torch.ones(3), torch.ones(3))


def test_pictures_move_to_all_sides_and_not_farther_than_asked():
    masks = torch.zeros(200, 20, 20, dtype=torch.uint8)
    _, moved, _ = augment(torch.zeros(200, 3, 20, 20), masks, None, config(shift=0.25), seed=3)
    for edge in (moved[:, 10, 0], moved[:, 10, -1], moved[:, 0, 10], moved[:, -1, 10]):
        assert 60 < int((edge == IGNORE).sum()) < 120
    assert (moved[:, 5:15, 5:15] == 0).all()


def test_another_light_changes_channels_by_their_gains_and_keeps_masks():
    light = config(balance=1.0, gamma=1.0)
    images = torch.full((1, 3, 2, 2), -0.5)  # 0.25 in [0, 1]
    same = relight(images, torch.zeros(4, 1), light)
    torch.testing.assert_close(same, images)
    changed = relight(images, torch.tensor([[1.0], [0.0], [-1.0], [0.0]]), light)  # gains 2, 1, 1/2
    torch.testing.assert_close((changed[0, :, 0, 0] + 1) / 2, torch.tensor([0.5, 0.25, 0.125]))
    squared = relight(images, torch.tensor([[0.0], [0.0], [0.0], [1.0]]), light)  # gamma 2
    torch.testing.assert_close((squared[0, 0, 0, 0] + 1) / 2, torch.tensor(0.0625))


def test_grey_takes_the_colours_of_the_chosen_images_and_of_no_others():
    images = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    changed, _, _ = augment(images, torch.zeros(64, 4, 4, dtype=torch.uint8), None, config(grey=0.5), seed=3)
    grey = (changed == changed[:, :1]).flatten(1).all(1)
    assert 16 < int(grey.sum()) < 48
    assert torch.equal(changed[~grey], images[~grey])
    torch.testing.assert_close(changed[grey][:, :1], luma(images[grey]))
