"""The toy generator: pictures drawn by formulas, with exact masks. Nothing in it was trained.

It is the fixture that every method is tested on, so it is built such that each method's premise holds:

* latent axis 0 brightens the object and darkens the background (saliency directions);
* its features are linearly separable by class but stretched along a shared shade, so that k-means with the true
  number of clusters cuts across the classes (clustering by linear separability);
* the object is carried by the edit point `object`: zero it and a plausible empty background is left (labels for free);
* it emits its layers and their probabilities (layered generators).

Brightness, colour, position, size and texture vary, so that neither a threshold nor a centre prior finds the object.
Measured on 256 pictures of 64 x 64 (seed 0), foreground IoU per image, then mean: Otsu 0.16, Otsu with an oracle for
its polarity 0.31, the best constant mask 0.39; a small U-Net after 400 steps on 512 pairs 0.97. Mean IoU over the four
classes from the features `full`: k-means with 4 clusters 0.12 (matched one to one), a linear SVM 0.99. Speed on one
core: 3100 pictures a second, 1400 with all features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.builtin.config import ToyConfig
from gsegkit.errors import ContractError
from gsegkit.interfaces import Edit, Generator
from gsegkit.seeds import normals
from gsegkit.taps import TapPoint, Taps
from gsegkit.types import FeatureSpec, GeneratedBatch, GeneratorInfo

CLASSES = ("background", "body", "spot", "rim")
#: Feature map -> (the image's size divided by this, channels), shallow to deep.
FEATURES = {"quarter": (4, 24), "half": (2, 16), "full": (1, 12)}

LIGHT = 0  #: the latent axis that brightens the object and darkens the background
LIGHT_GAIN = 0.14  # change of brightness per unit of that axis
CLASS_GAP = 3.0  # length of a class's code in feature space
SHADE_GAIN = 12.0  # the shade's; 4 times the gap makes k-means cut along the shade first
NUISANCE_GAIN = 0.3  # what the other feature channels vary by
EDGE = 2.5  # steepness of the soft edges, per pixel


class Toy(Generator):
    """Draws one striped, rimmed, spotted object on a wavy background.

    Example:
        >>> toy = Toy(ToyConfig(size=32))
        >>> batch = toy.sample(torch.arange(4))
        >>> batch.images.shape, toy.truth(batch).shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 32, 32]))
    """

    config: ToyConfig
    x: Tensor
    y: Tensor
    grain: Tensor
    stir: Tensor

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        height, width = config.size, config.width or config.size
        self.info = GeneratorInfo(
            height=height,
            width=width,
            latent_shape=(config.latent_dim,),
            num_classes=config.num_classes,
            features=tuple(
                FeatureSpec(name, channels, -(-height // by), -(-width // by))
                for name, (by, channels) in FEATURES.items()
            ),
            edit_points=("object", "background"),
            mask_classes=CLASSES,
            licence="Apache-2.0 (drawn by formulas, no data)",
        )
        self.object = TapPoint()
        self.background = TapPoint()
        self.taps = Taps({"object": self.object, "background": self.background})
        self._constants(height, width)

    def _constants(self, height: int, width: int) -> None:
        """Everything that is the same in all pictures; drawn from a fixed stream, so it needs no storing."""
        random = np.random.RandomState(20)
        constants = {}
        for name, (_, channels) in FEATURES.items():  # a rotation: no single channel is a class
            rotation, _ = np.linalg.qr(random.standard_normal((channels, channels)))
            constants[f"mix_{name}"] = torch.from_numpy(rotation.astype(np.float32))
        # pixel centres: -1 .. 1 on the short side, beyond on the long one
        short = min(height, width)
        y = (torch.arange(height) * 2 + 1 - height).view(-1, 1).expand(height, width) / short
        x = (torch.arange(width) * 2 + 1 - width).expand(height, width) / short
        grain = torch.from_numpy(random.standard_normal((1, 1, height, width)).astype(np.float32))
        constants |= {"x": x.contiguous(), "y": y.contiguous(), "grain": 0.04 * grain}
        waves = torch.from_numpy(random.uniform(-6, 6, (3, self.config.latent_dim - 10, 1, 1)).astype(np.float32))
        constants["stir"] = torch.sin(waves[0] * x + waves[1] * y + waves[2])
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def latents(self, seeds: Tensor) -> Tensor:
        """Standard normals, [N, latent_dim]."""
        return normals(seeds, self.info.latent_shape).to(self.device)

    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """Draw the pictures; see `Generator.synthesize`.

        Edit points: `object` [N, 3, H, W], the opacities of body, spot and rim; `background` [N, 3, H, W], its colours.
        """
        for name in features:
            self.info.feature(name)
        self._check(latents, labels)
        knobs = _Knobs(latents)
        shade = torch.sin(knobs.turned(self.x, self.y, knobs.slope) * 1.6 + 2 * knobs.phase)  # [N,1,H,W] in [-1, 1]
        with self.taps.open(edits=edits):
            opacities = self.object(self._opacities(knobs, labels)).clamp(0, 1)  # [N,3,H,W]
            background = self.background(self._background(knobs, latents, shade))
        probs = _composite(opacities)
        foreground = self._foreground(knobs, shade, opacities)
        cover = opacities[:, :1]
        return GeneratedBatch(
            images=foreground * cover + background * (1 - cover),
            latents=latents,
            labels=labels,
            features={name: self._feature(name, probs, shade) for name in features},
            probs=probs,
            layers={"background": background, "foreground": foreground},
        )

    def truth(self, batch: GeneratedBatch) -> Tensor:
        """The class of highest probability, [N, H, W] uint8; exact, since the probabilities made the picture."""
        if batch.probs is None:
            raise ContractError("the batch has no probabilities", "give a batch that this generator made")
        return batch.probs.argmax(dim=1).to(torch.uint8)

    def _check(self, latents: Tensor, labels: Tensor | None) -> None:
        if latents.shape[1:] != self.info.latent_shape:
            raise ContractError(
                f"latents must be [N, {self.config.latent_dim}], got {list(latents.shape)}",
                "make them with the generator's own latents()",
            )
        if self.info.num_classes and labels is None:
            raise ContractError("the toy needs labels", "make them with the generator's own labels()")

    # ---- the object ----------------------------------------------------------------------------------------------

    def _opacities(self, knobs: _Knobs, labels: Tensor | None) -> Tensor:
        """Opacity of body, spot and rim, [N, 3, H, W] in [0, 1]: soft steps over (about) signed distances."""
        dx, dy = self.x - knobs.x * self._reach(self.x), self.y - knobs.y * self._reach(self.y)
        along = knobs.turned(dx, dy, knobs.angle) * knobs.stretch
        across = knobs.turned(dx, dy, knobs.angle + math.pi / 2) / knobs.stretch
        power = self._power(labels)
        # |a|^p + |b|^p = r^p: a diamond (p near 1), an ellipse (2), a rounded box (more)
        distance = (along.abs() ** power + across.abs() ** power + 1e-6) ** (1 / power)
        spot = (along - 0.45 * knobs.radius * knobs.spot) ** 2 + (across - 0.2 * knobs.radius) ** 2
        depth = knobs.radius - distance
        depths = torch.cat([depth, 0.35 * knobs.radius - (spot + 1e-6).sqrt(), 0.2 * knobs.radius - depth], dim=1)
        return torch.sigmoid(depths * (EDGE * min(self.info.height, self.info.width) / 2))

    def _reach(self, axis: Tensor) -> float:
        """How far the object's centre may go along an axis: 0.5 on the short side, as near the edge on the long."""
        return float(axis.abs().max()) - 0.5

    def _power(self, labels: Tensor | None) -> Tensor:
        if not self.info.num_classes or labels is None:
            return torch.full((1, 1, 1, 1), 2.0, device=self.device)
        return (1.3 * 1.6 ** labels.float()).clamp(max=8).view(-1, 1, 1, 1)

    def _foreground(self, knobs: _Knobs, shade: Tensor, opacities: Tensor) -> Tensor:
        """Colours of the object, [N, 3, H, W]: stripes on the body, then rim, then spot over it."""
        stripes = torch.sin(9 * knobs.turned(self.x, self.y, knobs.angle) / knobs.radius)
        body = 0.16 * stripes + _hue(knobs.hue)
        painted = body + opacities[:, 2:3] * (0.3 * _hue(knobs.hue + 0.5) - 0.25)  # the rim is darker
        painted = painted + opacities[:, 1:2] * (1.4 * _hue(knobs.hue + 1) - painted)
        return painted + LIGHT_GAIN * knobs.light + 0.14 * shade + self.grain

    # ---- the background ------------------------------------------------------------------------------------------

    def _background(self, knobs: _Knobs, latents: Tensor, shade: Tensor) -> Tensor:
        """Colours of the background, [N, 3, H, W]: crossing waves."""
        waves = torch.sin(5 * knobs.turned(self.x, self.y, knobs.slope) + 4 * knobs.phase)
        waves = waves + torch.sin(8 * knobs.turned(self.x, self.y, knobs.slope + 1.2) - 3 * knobs.ground)
        if latents.shape[1] > 10:
            stir = torch.tanh(latents[:, 10:]) / math.sqrt(latents.shape[1] - 10)
            waves = waves + torch.einsum("ne,ehw->nhw", stir, self.stir).unsqueeze(1)
        return 0.18 * waves + 0.14 * shade - LIGHT_GAIN * knobs.light + _hue(knobs.ground) + self.grain

    # ---- features ------------------------------------------------------------------------------------------------

    def _feature(self, name: str, probs: Tensor, shade: Tensor) -> Tensor:
        """A feature map, [N, C, h, w]: class code, shade and small nuisances, rotated.

        The classes lie at the corners of a simplex of edge 1.4 CLASS_GAP, each drawn out along the shade to a bar of
        length 2 SHADE_GAIN.
        """
        spec = self.info.feature(name)
        size = (spec.height, spec.width)
        probs = F.interpolate(probs, size, mode="area")
        shade = F.interpolate(shade, size, mode="area")
        steps = torch.arange(1, spec.channels - len(CLASSES), device=shade.device).view(1, -1, 1, 1)
        nuisances = torch.sin(steps * 2.4 * shade + steps**2)
        code = torch.cat([CLASS_GAP * probs, SHADE_GAIN * shade, NUISANCE_GAIN * nuisances], dim=1)
        return torch.einsum("dc,nchw->ndhw", self.get_buffer(f"mix_{name}"), code)


class _Knobs:
    """What the latent's numbers mean, each [N, 1, 1, 1]; uniform in (-1, 1) before scaling, except `light`."""

    def __init__(self, latents: Tensor) -> None:
        uniform = torch.erf(latents[:, :10] / math.sqrt(2))[:, :, None, None, None].unbind(1)
        self.light = latents[:, LIGHT].view(-1, 1, 1, 1)
        self.x, self.y = uniform[1], uniform[2]
        self.radius = 0.5 + 0.15 * uniform[3]  # the image's short side is 2
        self.stretch = torch.exp(0.25 * uniform[4])
        self.angle = math.pi / 2 * uniform[5]
        self.hue, self.ground = uniform[6], uniform[7]
        self.slope = math.pi * uniform[8]
        self.phase = math.pi / 2 * (uniform[8] + uniform[7])
        self.spot = uniform[9]

    @staticmethod
    def turned(x: Tensor, y: Tensor, angle: Tensor) -> Tensor:
        """The coordinate along a direction."""
        return x * torch.cos(angle) + y * torch.sin(angle)


def _hue(turn: Tensor) -> Tensor:
    """A colour of the wheel, [N, 3, 1, 1]; -1 and 1 are the same hue half a turn away from 0."""
    offsets = torch.tensor([0.0, 2 / 3, 4 / 3], device=turn.device).view(1, 3, 1, 1)
    return 0.32 * torch.cos(math.pi * (turn + offsets))


def _composite(opacities: Tensor) -> Tensor:
    """Opacities of body, spot, rim -> probabilities of background, body, spot, rim, [N, 4, H, W]; sums to 1."""
    cover, spot, rim = opacities.unbind(1)
    return torch.stack([1 - cover, cover * (1 - spot) * (1 - rim), cover * spot, cover * (1 - spot) * rim], dim=1)
