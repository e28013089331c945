import pytest
import torch
import torch.nn.functional as F
from gsegkit_smp import ARCHITECTURES
from gsegkit_smp.networks import Sizes, answer_small, pad_images

from gsegkit.errors import ArtifactError, ConfigError, ContractError
from gsegkit.plugins import installed

SMALL = {"encoder": "tu-test_resnet", "steps": 6, "batch_size": 4, "val_every": 2}


def trained_shape(name, size=(33, 47), **options):
    """A segmenter with its random weights, as after load_part."""
    segmenter = installed().build("segmenter", name, options)
    segmenter.restore({"classes": ["a", "b", "c"], "train_size": list(size), "fit_rule": "native"})
    return segmenter.eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_odd_size_and_a_single_image(name):
    segmenter = trained_shape(name)
    images = torch.rand(1, 3, 33, 47, requires_grad=True)
    logits = segmenter.logits(images)
    assert logits.shape == (1, 3, 33, 47)
    assert logits.dtype == torch.float32
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["deeplabv3", "pspnet", "upernet"])
def test_one_image_in_training_mode_is_refused_clearly(name):
    segmenter = trained_shape(name).train()
    with pytest.raises(ContractError, match="at least 2 images"):
        segmenter.logits(torch.zeros(1, 3, 64, 64))


def test_padding_repeats_the_edge_and_leaves_the_image():
    images = torch.rand(2, 3, 5, 9)
    padded = pad_images(images, Sizes(8, 8))
    assert padded.shape == (2, 3, 8, 16)
    assert torch.equal(padded[..., :5, :9], images)
    assert torch.equal(padded[..., 7, :9], images[..., 4, :])
    assert pad_images(images, Sizes(4, 32)).shape == (2, 3, 32, 32)
    assert pad_images(padded, Sizes(8, 8)).shape == padded.shape


def test_untrained_segmenter_says_so():
    with pytest.raises(ArtifactError, match="not trained"):
        installed().build("segmenter", "unet", {}).logits(torch.zeros(1, 3, 32, 32))


def test_encoder_of_fixed_size_is_explained(tmp_path, shapes, context):
    options = {**SMALL, "encoder": "tu-vit_tiny_patch16_224", "model_options": {"decoder_fusion_channels": 16}}
    segmenter = installed().build("segmenter", "dpt", options)
    with pytest.raises(ConfigError, match="dynamic_img_size"):
        segmenter.fit(shapes(8), context(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_traced_for_any_size(name):
    segmenter = trained_shape(name)
    dynamic = {"images": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}}

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.segmenter = segmenter

        def forward(self, images):
            return self.segmenter.logits(images)

    program = torch.export.export(Logits(), (torch.rand(2, 3, 70, 90),), dynamic_shapes=dynamic, strict=False)
    for size in ((3, 3, 33, 47), (2, 3, 64, 96)):
        images = torch.rand(size)
        torch.testing.assert_close(program.module()(images), segmenter.logits(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", ["squash", "crop", "pad", "native"])
def test_prediction_at_several_sizes_and_of_the_mirror_image(rule):
    def made(**options):
        segmenter = installed().build("segmenter", "unet", {"encoder": "tu-test_resnet", **options})
        segmenter.restore({"classes": ["a", "b", "c"], "train_size": [32, 32], "fit_rule": rule})
        return segmenter

    one, both, mirrored = made(), made(predict_scales=[1.0, 1.5]), made(predict_flip=True)
    larger = made(predict_scales=[1.5])
    for other in (both, mirrored, larger):
        other.load_state_dict(one.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    assert both.probs(pixels).shape == (2, 3, 40, 56)
    assert not torch.allclose(larger.probs(pixels), one.probs(pixels))
    torch.testing.assert_close(both.probs(pixels), (one.probs(pixels) + larger.probs(pixels)) / 2)
    torch.testing.assert_close(mirrored.probs(pixels.flip(-1)), mirrored.probs(pixels).flip(-1), atol=2e-3, rtol=0)
    assert both.training, "as it was before"


# ---- enlarged images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (37, 51)])
def test_a_coarse_network_answers_at_the_images_own_size(size):
    images = torch.nn.functional.avg_pool2d(torch.randn(2, 3, *size), 5, 1, 2).clamp(-1, 1)
    part = installed().build("segmenter", "deeplabv3")
    part._build(("a", "b", "c"), size, "squash", pretrained=False)
    part.eval()
    assert part._small_answer
    with torch.no_grad():
        found = part.logits(images)
        (head,) = [m for m in part.network.segmentation_head.modules() if isinstance(m, torch.nn.Upsample)]
        assert head.scale_factor == 4, "8, half of it for images twice as large"
        head.scale_factor, part._small_answer = 8.0, False
        fine = part.logits(images)
    assert found.shape == fine.shape == (2, 3, *size)
    assert float((found - fine).abs().max()) < 0.05 * float(fine.std())
    assert not answer_small(part.network, 3.0)


def test_an_enlarged_network_sees_larger_images_and_answers_at_their_own_size():
    """The same weights, by hand: images twice as large, then the means of four logits."""
    torch.manual_seed(0)
    segmenter = trained_shape("unet", **SMALL, enlarge=2.0)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        found = segmenter.logits(images)
        large = segmenter.network(F.interpolate(images, scale_factor=2, mode="bilinear"))
    assert found.shape == (2, 3, 32, 48)
    torch.testing.assert_close(found, F.avg_pool2d(large, 2))


def test_runs_of_before_keep_their_size_and_widths():
    """A stored record without `enlarge` means none; its model_options are all there."""
    old = {"model_options": {"decoder_channels": 64, "encoder_output_stride": 8, "decoder_atrous_rates": [2, 4, 6]}}
    part = installed().build("segmenter", "deeplabv3", old, stored=True)
    assert part.config.enlarge == 1
    assert "channels" not in part.config.model_options
    assert installed().build("segmenter", "deeplabv3").config.enlarge == 2


@pytest.mark.parametrize("name", ["unet", "deeplabv3", "segformer"])
def test_the_narrow_widths_are_those_of_the_default_encoder(name):
    def make(**options):
        return installed().build("segmenter", name, options)

    assert "channels" in make().config.model_options
    assert "channels" not in make(encoder="resnet18").config.model_options
    assert "channels" not in make(profile="lite", encoder_weights=None).config.model_options
    given = make(encoder="tu-resnet18", model_options={"channels": [16, 32, 64, 128]})
    assert given.config.model_options == {"channels": [16, 32, 64, 128]}
