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


HOSTILE_OPTIONS = [
    {"checkpoint_path": "x.pth"},
    {"pretrained": True},
    {"pretrained_cfg": {"file": "x.pth"}},
    {"pretrained_cfg_overlay": {"file": "x.pth"}},
    {"pretrained_cfg_overlay": "x"},
    {"cache_dir": "x"},
    {"scriptable": True},
    {"features_only": False},
    {"self": 1},
    {"kwargs": 1},
    {"name": "resnet18"},
    {"model_name": "x"},
    {"file": "x.pth"},
    {"act_layer": "os.system"},
    {"norm_layer": "../x"},
    {"channels": "../../x"},
    {"channels": [10**9]},
    {"channels": {"a": 1}},
    {"decoder_use_norm": {"type": "batchnorm", "x": "y"}},
    {"decoder_channels": [[[1]]]},
]


@pytest.mark.parametrize("architecture", ["unet", "fpn", "dpt"])
@pytest.mark.parametrize("option", HOSTILE_OPTIONS, ids=str)
def test_a_stored_option_reaches_no_library_unless_it_is_on_the_list(tmp_path, monkeypatch, option, architecture):
    """What stands in a stranger's component.json is refused before smp or timm see it."""
    import timm.models

    seen = []
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: seen.append(options))
    options = {"model_options": option}
    with pytest.raises(ConfigError) as caught:
        installed().build("segmenter", architecture, options, stored=True)
    assert not seen
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "encoder", ["tu-hf_hub:a/b", "tu-hf-hub:a/b", "tu-local-dir:/tmp", "tu-resnet10t.x/../y", "../x"]
)
def test_a_stored_encoder_is_a_known_name(encoder):
    with pytest.raises(ConfigError):
        installed().build("segmenter", "unet", {"encoder": encoder}, stored=True)


def test_the_list_holds_what_profiles_and_pages_use():
    options = {"dynamic_img_size": True, "img_size": [64, 64], "decoder_fusion_channels": 8}
    make("dpt", model_options=options)
    make(model_options={"channels": [16, 32, 64, 128], "drop_path_rate": 0.1, "act_layer": "silu"})
    make("deeplabv3", encoder="resnet18", model_options={"encoder_output_stride": 8, "decoder_atrous_rates": [2, 4, 6]})
