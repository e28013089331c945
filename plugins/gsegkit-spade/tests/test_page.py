"""The network of the page is the network of Python."""

import json
import shutil
import subprocess

import pytest
import torch
from gsegkit_spade.class_adaptive import ClassAdaptivePainter
from gsegkit_spade.config import ClassAdaptiveConfig
from gsegkit_spade.page import folded

from gsegkit.painting import Style, latents_of
from gsegkit.painting.page.network import network_data, rounded, worker_script

NODE = shutil.which("node")
STYLES = (Style(3), Style(4_294_967_294, 12, 0.3), Style(7, regions=(None, 9, None)))


def painter(size):
    """Untrained, with statistics and gains as a trained one has them; some weights are tiny."""
    made = ClassAdaptivePainter(ClassAdaptiveConfig(latent_dim=5, width=6, width_max=11))
    made.restore({"classes": ["ground", "cell", "nucleus"], "train_size": list(size)})
    noise = torch.Generator().manual_seed(1)
    for name, value in made.network.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=noise) * 3 + 0.05)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=noise) * (0.15 if "weight" in name else 0.1))
    made.network.last.weight.data[:, 0] *= 1e-5
    return made.eval()


def masks_of(size):
    masks = torch.randint(0, 3, (len(STYLES), *size), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    masks[:, : size[0] // 2] = 1
    masks[0, -2:, :3] = 255
    return masks


def test_folding_changes_no_picture():
    made = painter((20, 33))
    masks, z = masks_of((20, 33)), made.latents(torch.arange(len(STYLES)))
    before = made.paint(masks, z)
    assert before.std() > 0.05
    made.network = folded(made.network)
    assert (made.paint(masks, z) - before).abs().max() < 1e-5


@pytest.mark.skipif(NODE is None, reason="needs node")
@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
def test_the_page_paints_the_same_picture(tmp_path, size):
    made, masks = painter(size), masks_of(size)
    network = made.in_page()
    (tmp_path / "worker.js").write_text(worker_script(network))
    work = {
        "network": network_data(network, made.latent_dim),
        "masks": masks.flatten(1).tolist(),
        "styles": [
            {"seed": one.seed, "other": one.other, "mix": one.mix, "regions": one.regions or (None,) * 3}
            for one in STYLES
        ],
    }
    (tmp_path / "work.json").write_text(json.dumps(work))
    script = """
    const { painterOf, rgbaOf } = require(process.argv[1]);
    const { network, masks, styles } = require(process.argv[2]);
    const paint = painterOf(network);
    const pictures = masks.map((mask, place) => paint(Uint8Array.from(mask), styles[place]));
    console.log(JSON.stringify([pictures.map((one) => [...one]), [...rgbaOf(pictures[0]).slice(0, 8)]]));
    """
    done = subprocess.run(
        [NODE, "-e", script, str(tmp_path / "worker.js"), str(tmp_path / "work.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, first = json.loads(done.stdout)
    full = [made.paint(mask[None], latents_of(made, style)) for mask, style in zip(masks, STYLES, strict=True)]
    flat = folded(made.network)
    flat.load_state_dict({**flat.state_dict(), **{name: rounded(value) for name, value in network.tensors.items()}})
    made.network = flat
    same = [made.paint(mask[None], latents_of(made, style)) for mask, style in zip(masks, STYLES, strict=True)]
    pictures = torch.tensor(found).view(-1, 3, *size)
    assert (pictures - torch.cat(same)).abs().max() < 3e-4
    assert (pictures - torch.cat(full)).abs().max() < 0.05, "half precision is enough"
    assert (pictures - torch.cat(full)).abs().mean() < 2e-3
    assert first[3] == first[7] == 255
    assert first[:3] == ((pictures[0, :, 0, 0] + 1) * 127.5).round().int().tolist()
