import torch
from gsegkit_smp.losses import inverse_sqrt_frequency, segmentation_loss


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 6, 7, generator=generator)
    masks = torch.randint(0, 3, (2, 6, 7), generator=generator, dtype=torch.uint8)
    return logits, masks


def test_equals_torch_cross_entropy():
    logits, masks = batch()
    masks[0, :3] = 255
    weights = torch.tensor([1.0, 2.0, 0.5])
    expected = torch.nn.functional.cross_entropy(logits, masks.long(), weight=weights, ignore_index=255)
    torch.testing.assert_close(segmentation_loss(logits, masks, class_weights=weights), expected)


def test_ignored_and_weightless_pixels_have_no_effect():
    for dice in (0.0, 1.0):
        logits, masks = batch()
        ignored = masks.clone()
        ignored[:, :2] = 255
        changed = logits.clone()
        changed[:, :, :2] += 100
        assert segmentation_loss(logits, ignored, dice_weight=dice) == segmentation_loss(
            changed, ignored, dice_weight=dice
        )
        weights = (ignored != 255).float()
        torch.testing.assert_close(
            segmentation_loss(changed, masks, weights, dice_weight=dice),
            segmentation_loss(logits, ignored, dice_weight=dice),
        )


def test_weight_two_counts_as_two_pixels():
    logits, masks = batch()
    weights = torch.ones(2, 6, 7)
    weights[0] = 2
    twice = segmentation_loss(torch.cat([logits, logits[:1]]), torch.cat([masks, masks[:1]]))
    torch.testing.assert_close(segmentation_loss(logits, masks, weights), twice)


def test_nothing_but_ignored_pixels_is_zero_and_differentiable():
    logits, masks = batch()
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full_like(masks, 255), dice_weight=1.0)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_dice_is_zero_when_the_prediction_is_perfect():
    _, masks = batch()
    perfect = torch.nn.functional.one_hot(masks.long(), 3).permute(0, 3, 1, 2).float() * 100
    assert segmentation_loss(perfect, masks, dice_weight=1.0) < 1e-5
    assert segmentation_loss(-perfect, masks, dice_weight=1.0) - segmentation_loss(-perfect, masks) > 0.9


def test_rare_classes_weigh_more():
    weights = inverse_sqrt_frequency(torch.tensor([900, 100, 0]))
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor(3.0))
    torch.testing.assert_close(weights[:2].mean(), torch.tensor(1.0))
    assert weights[2] == 0
