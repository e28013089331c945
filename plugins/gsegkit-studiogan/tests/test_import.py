"""Files whose network two methods share: the file's words decide, or the user does."""

import pytest
from gsegkit_resgan.readers import sample

from gsegkit import api
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.parts import CARD_FILE
from gsegkit.plugins import installed
from gsegkit.storage import read_json


def test_the_run_in_the_file_decides(tmp_path):
    sample.write_acgan(tmp_path / "file.pth")
    folder = api.import_checkpoint(tmp_path / "file.pth")
    card = read_json(folder / CARD_FILE)
    assert (card["generator"], card["layout"]) == ("acgan", "PyTorch-StudioGAN resnet")
    assert "research" in card["licence"]
    with pytest.raises(ArtifactError, match="for the generator 'acgan', not for the generator 'sngan'"):
        installed().build("generator", "sngan", {"weights": str(tmp_path / "file.pth")})


def test_a_file_that_names_no_method_is_taken_by_the_wanted_generator(tmp_path):
    import torch

    path = tmp_path / "file.pth"
    torch.save({"state_dict": sample.studiogan("table")}, path)
    with pytest.raises(ConfigError, match="acgan and sngan") as caught:
        api.look_at_checkpoint(path)
    assert "--reader" in caught.value.hint
    assert api.look_at_checkpoint(path, reader="sngan").component == "sngan"
    for name in ("acgan", "sngan"):
        built = installed().build("generator", name, {"weights": str(path), "classes": [1]})
        assert (built.info.height, built.info.num_classes) == (8, 3)
        assert set(built.labels(torch.arange(20)).tolist()) == {1}
