import subprocess
import sys

import pytest
from gsegkit_smp import ARCHITECTURES

from gsegkit.cli.option_table import option_table
from gsegkit.config import build_config
from gsegkit.errors import ConfigError
from gsegkit.plugins import installed


def make(name="unet", **options):
    return installed().build("segmenter", name, options)


def test_every_architecture_of_smp_is_listed():
    import segmentation_models_pytorch as smp

    assert set(ARCHITECTURES) == set(smp.MODEL_ARCHITECTURES_MAPPING)


def test_listing_and_options_import_no_torch():
    code = (
        "import sys, gsegkit_smp, gsegkit_smp.config; list(gsegkit_smp.gsegkit_components());"
        "print([m for m in ('torch', 'timm', 'kornia', 'segmentation_models_pytorch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_options_name_their_architecture(name):
    config = installed().find("segmenter", name).config_class()
    assert config.architecture == name
    assert all(row.help for row in option_table(config))


@pytest.mark.parametrize("profile", ["standard", "paper-directions"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_profile_builds(name, profile):
    config = make(name, profile=profile).config
    promised = config.profiles[profile]
    assert {option: getattr(config, option) for option in promised} == promised


def test_paper_profile_holds_the_papers_constants():
    config = make(profile="paper-directions", steps=100).config
    assert (config.optimizer, config.lr, config.batch_size, config.decay_factor) == ("adam", 1e-3, 95, 0.2)
    assert config.steps == 100  # what the user says wins
    assert round(config.decay_at * 12_000) == 8_000
    assert not any((config.flip, config.rotate, config.scale, config.shift, config.colour, config.noise))
    assert make("deeplabv3plus", profile="paper-klish").config.encoder == "resnet50"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stepz": 5}, "did you mean 'steps'"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"schedule": "linear"}, "unet.schedule"),
        ({"model_options": {"classes": 3}}, "must not hold classes"),
        ({"encoder": "resnet81"}, "did you mean resnet18"),
        ({"encoder": "convnext_tiny"}, "tu-convnext_tiny"),
        ({"encoder": "tu-regnetx_02"}, "or tu-regnetx_002"),
        ({"encoder": "resnet18", "model_options": {"decoder_chanels": [8]}}, "did you mean decoder_channels"),
        ({"encoder": "resnet18", "encoder_weights": "imagenet22k"}, "it has: imagenet"),
        ({"encoder": "tu-resnet18", "encoder_weights": "nonsense"}, "a1_in1k"),
        ({"model_options": {"decoder_channels": [8, 8]}}, "cannot be built"),
    ],
)
def test_wrong_options_are_explained(options, words):
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert words in str(caught.value)


def test_dpt_asks_for_a_vision_transformer():
    with pytest.raises(ConfigError, match="vision transformer"):
        make("dpt", encoder="resnet18")
    with pytest.raises(ConfigError, match="deeplabv3 cannot be built on encoder 'vgg11'"):
        make("deeplabv3", encoder="vgg11")


def test_licence_of_pretrained_weights_is_known_without_fetching_them():
    from gsegkit_smp.networks import encoder_weights

    cls = installed().find("segmenter", "unet").config_class()
    weights = encoder_weights(build_config(cls, {"encoder": "tu-resnet18", "encoder_weights": "a1_in1k"}, "unet"))
    assert weights.licence == "apache-2.0"
    weights = encoder_weights(build_config(cls, {"encoder": "resnet18", "encoder_weights": "imagenet"}, "unet"))
    assert "smp-hub/resnet18.imagenet" in weights.source
