"""Refiner `colours`: the photograph's own colours sharpen what a segmenter says.

A segmenter that learned from generated pictures knows *what* is where, with blurred borders and a domain gap. The
photograph knows where the borders are, and which colours this one picture's parts have today. So, for each picture
alone, with pixels i, classes k and colours x_i in CIE Lab:

    prior             pi_ik                                the segmenter's probabilities; P_k = their mean over i
    colours of k      p_k(x) = sum_c a_kc N(x; mu_kc, S_kc)            a small mixture for each class
    evidence          l_ik = log p_k(x_i) - log sum_j Q_j p_j(x_i)     Q_k: mean of r_ik over i
    neighbours        m_ik = sum_j s_ij r_jk / sum_j s_ij  s_ij: near, and of the same colour (see EdgeMean)
    responsibility    r_ik ~ ((1 - floor) pi_ik + floor P_k) exp(weight l_ik + coupling m_ik + b_k)

GrabCut with K classes, a semantic prior in the place of the rectangle, EM in the place of hard assignments and mean
field in the place of the graph cut:

    r = pi; repeat: mixtures from r (M), r from mixtures (E), r once more with its neighbours (N).

**It does nothing where it has nothing to say.** Classes that share their colours have equal mixtures: l is 0, and the
prior decides. **It keeps every class.** b_k holds a class's area, before the neighbours speak, within a factor of what
the prior says, and colours that no class has today count at most `CAP` against each. **It is quick and repeatable.**
Mixtures are sums of phi(x) = (1, x, x x^T), so M and E are one matrix product each, in closed form, without sampling;
they work at `side` pixels, and a last E answers at full size. A prior with hard borders, such as the masks of generated
pairs, is softened first (`smooth`): where it may be wrong, colours can speak.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from kornia.filters import gaussian_blur2d
from torch import Tensor

from gsegkit.interfaces import Refiner
from gsegkit.types import IGNORE, LabelledBatch
from gsegkit_refine.config import ColoursConfig

CAP = 30.0  # nats: most that colours say against a class; 5 gives the same scores
MIN_PIXELS = 2.0  # of a class at the working size; with fewer it has no colours, and its prior stays
LEAST = 1e-4  # of the prior, so that a certain segmenter can be corrected too
PRODUCTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # entries of x x^T
TINY = 1e-8
STRIP_VALUES = 2**22  # of the last E at once: 16 MB for each of its terms


class Colours(Refiner):
    """Multiplies the class probabilities with the likelihood of this picture's colours, and takes the best class again.

    Where an earlier refiner changed a pixel, that decision is the prior there; 255 stays 255. The responsibilities
    replace the probabilities, so that a later `confidence` sees them. The share of pixels that changed class is added
    as the score `colours_changed`. Drops no picture.
    """

    config: ColoursConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """One row at a time, so that a row's result cannot depend on its batch."""
        prior = batch.decided()
        with side_by_side(len(batch) if prior.device.type == "cpu" else 1) as each:
            rows = list(each(lambda pixels, probs: sharpen(pixels, probs, self.config), batch.pixels, prior))
        probs = torch.stack(rows) if rows else prior
        masks = torch.where(batch.masks == IGNORE, IGNORE, probs.argmax(dim=1)).to(torch.uint8)
        changed = (masks != batch.masks).flatten(1).float().mean(dim=1)
        return replace(batch, masks=masks, probs=probs).with_scores(colours_changed=changed)


@contextlib.contextmanager
def side_by_side(count: int) -> Iterator[Callable[..., Iterable[Tensor]]]:
    """A `map` for `count` pictures that works on several at once, each on one thread.

    The matrices of one picture are too small to be divided among threads: that takes longer than one thread alone.
    The number of threads is torch's, for the whole process, so it is put back.
    """
    threads = torch.get_num_threads()
    if count < 2 or threads < 2:
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=min(threads, count)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def sharpen(pixels: Tensor, prior: Tensor, config: ColoursConfig) -> Tensor:
    """Responsibilities of one picture.

    Args:
        pixels: [3, H, W] uint8.
        prior: [K, H, W] float32, sums to 1 over K.
        config: see `ColoursConfig`.

    Returns:
        [K, H, W] float32, sums to 1 over K.
    """
    image, size = pixels.float() / 255, _working_size(prior.shape[-2], prior.shape[-1], config.side)
    if config.smooth:
        prior = _softened(prior, config.smooth * max(prior.shape[-2:]) / max(size))
    small = _shrunk(prior, size)
    there = small.sum(dim=(1, 2)) >= MIN_PIXELS
    if int(there.sum()) < 2:
        return prior
    r = _responsibilities(image, prior[there], small[there], config)
    r *= prior[there].sum(dim=0, keepdim=True)
    if bool(there.all()):
        return r
    found = prior.clone()  # classes that are not in the picture keep their traces
    found[there] = r
    return found


def _responsibilities(image: Tensor, prior: Tensor, small: Tensor, config: ColoursConfig) -> Tensor:
    """Of the classes that are there: image [3, H, W] in 0..1, prior [K, H, W], small [K, h, w] -> [K, H, W]."""
    full, size = (int(prior.shape[-2]), int(prior.shape[-1])), (int(small.shape[-2]), int(small.shape[-1]))
    small = small / small.sum(dim=0, keepdim=True).clamp(min=TINY)
    coarse = Picture.of(_shrunk(image, size), small)
    neighbours = EdgeMean(coarse.colours.reshape(3, *size), config.radius)
    r, mixtures = coarse.prior, None
    for _ in range(config.rounds):
        mixtures = Mixtures.fitted(r, coarse, config, mixtures)  # M
        mixtures, logits = mixtures.balanced(coarse, config)
        message = neighbours(logits.softmax(dim=0))  # E
        r = (logits + config.coupling * message).softmax(dim=0)  # N
    if size == full or mixtures is None:
        return r.reshape(-1, *full)
    found = F.interpolate(message.reshape(1, -1, *size), full, mode="bilinear", align_corners=False)[0]
    rows = max(1, STRIP_VALUES // (len(prior) * config.components * full[1]))
    for top in range(0, full[0], rows):  # a pixel's last E needs no other pixel, and a whole picture's much memory
        own = slice(top, top + rows)
        part = prior[:, own] / prior[:, own].sum(dim=0, keepdim=True).clamp(min=TINY)
        fine = Picture.of(image[:, own], part)
        logits = mixtures.logits(fine, config) + config.coupling * found[:, own].flatten(1)
        found[:, own] = logits.softmax(dim=0).reshape(part.shape)
    return found


@dataclass(frozen=True)
class Picture:
    """One picture at one size: M pixels, their colours, phi and prior.

    Attributes:
        colours: [3, M] CIE Lab, lightness less 50.
        phi: [10, M]: 1, x and the products of x.
        prior: [K, M].
    """

    colours: Tensor
    phi: Tensor
    prior: Tensor

    @staticmethod
    def of(image: Tensor, prior: Tensor) -> Picture:
        """From [3, H, W] in 0..1 and [K, H, W]."""
        x = rgb_to_lab(image.unsqueeze(0))[0].flatten(1)
        x[0] -= 50  # small numbers keep the sums of squares exact
        phi = torch.cat([torch.ones_like(x[:1]), x, torch.stack([x[a] * x[b] for a, b in PRODUCTS])])
        return Picture(x, phi, prior.flatten(1))


@dataclass(frozen=True)
class Mixtures:
    """The colours of every class in one picture: C Gaussians for each of K classes.

    Attributes:
        theta: [K C, 10], so that log(a_kc N(x; mu_kc, S_kc)) = theta phi(x).
        split: [K, C, M], each pixel's shares of its class's components.
        share: [K], Q: each class's share of the picture.
        frequency: [K], P: the same in the prior.
        bias: [K, 1], b: keeps the areas.
    """

    theta: Tensor
    split: Tensor
    share: Tensor
    frequency: Tensor
    bias: Tensor

    @staticmethod
    def fitted(r: Tensor, picture: Picture, config: ColoursConfig, before: Mixtures | None) -> Mixtures:
        """M: weighted means and covariances by the responsibilities [K, M]."""
        classes, components = len(r), config.components
        split = before.split if before else _first_split(r, picture, components, config.spread)
        counts, means, covariances = _moments((r.unsqueeze(1) * split).flatten(0, 1), picture.phi, config.spread)
        within = counts.reshape(classes, components)
        within = (within / within.sum(dim=1, keepdim=True).clamp(min=TINY)).clamp(min=TINY).log()  # log a_kc
        theta = _theta(means, covariances)
        theta[:, 0] += within.flatten()
        mixtures = Mixtures(theta, split, r.mean(dim=1), picture.prior.mean(dim=1), theta.new_zeros(classes, 1))
        if components > 1:
            joint = (theta @ picture.phi).reshape(classes, components, -1)
            mixtures = replace(mixtures, split=joint.softmax(dim=1))
        return mixtures

    def logits(self, picture: Picture, config: ColoursConfig) -> Tensor:
        """E: logarithms of the responsibilities without neighbours, up to a constant; [K, M]."""
        joint = (self.theta @ picture.phi).reshape(len(self.share), -1, picture.phi.shape[1])
        likelihood = joint.logsumexp(dim=1) if joint.shape[1] > 1 else joint[:, 0]
        whole = (likelihood + self.share.clamp(min=TINY).log().unsqueeze(1)).logsumexp(dim=0)
        evidence = (likelihood - whole).clamp(min=-CAP)
        prior = (1 - config.floor) * picture.prior + config.floor * self.frequency.unsqueeze(1)
        return (prior + LEAST).log() + config.weight * evidence + self.bias

    def balanced(self, picture: Picture, config: ColoursConfig) -> tuple[Mixtures, Tensor]:
        """With the b that brings each area back to within a factor `mass` of the prior's, and the logits with it."""
        logits, limit = self.logits(picture, config), math.log(config.mass)
        wanted, bias = self.frequency.clamp(min=TINY).log(), torch.zeros_like(self.bias)
        for _ in range(2):  # a class that gives way changes the others: the second pass settles them
            growth = (logits + bias).softmax(dim=0).mean(dim=1).clamp(min=TINY).log() - wanted
            if float(growth.abs().max()) <= limit:
                break
            bias = bias - (growth - growth.clamp(-limit, limit)).unsqueeze(1)
        return replace(self, bias=bias), logits + bias


def _moments(weights: Tensor, phi: Tensor, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted counts [G], means [G, 3] and covariances [G, 3, 3] of colours; weights [G, M]."""
    moments = weights @ phi.T
    counts = moments[:, 0]
    moments = moments / counts.clamp(min=TINY).unsqueeze(1)
    means = moments[:, 1:4]
    covariances = moments.new_zeros(len(weights), 3, 3)
    for value, (a, b) in zip(moments[:, 4:].T, PRODUCTS, strict=True):
        covariances[:, a, b] = covariances[:, b, a] = value
    covariances = covariances - means.unsqueeze(2) * means.unsqueeze(1)
    return counts, means, covariances + spread**2 * torch.eye(3, device=phi.device)


def _theta(means: Tensor, covariances: Tensor) -> Tensor:
    """Logarithm of N(x; mu, S) as a linear function of phi(x): [G, 10]."""
    precisions = torch.linalg.inv(covariances)
    linear = (precisions @ means.unsqueeze(2)).squeeze(2)
    constant = -0.5 * ((means * linear).sum(dim=1) + torch.logdet(covariances) + 3 * math.log(2 * math.pi))
    square = torch.stack([precisions[:, a, b] * (-0.5 if a == b else -1.0) for a, b in PRODUCTS], dim=1)
    return torch.cat([constant.unsqueeze(1), linear, square], dim=1)


def _first_split(r: Tensor, picture: Picture, components: int, spread: float) -> Tensor:
    """Each class's colours cut along their longest axis, softly: [K, C, M]."""
    if components == 1:
        return torch.ones_like(r).unsqueeze(1)
    _, means, covariances = _moments(r, picture.phi, spread)
    variances, axes = torch.linalg.eigh(covariances)
    axis = axes[:, :, -1]
    along = axis @ picture.colours - (axis * means).sum(dim=1, keepdim=True)
    along = along / variances[:, -1:].sqrt()  # in standard deviations
    centres = torch.linspace(-1, 1, components, device=r.device).view(1, -1, 1)
    return (-2 * (along.unsqueeze(1) - centres) ** 2).softmax(dim=1)


class EdgeMean:
    """The mean of a pixel's neighbourhood, itself included, in which pixels of another colour hardly count.

    s_ij = exp(-|x_i - x_j|^2 / 2 v) exp(-d_ij^2 / 2 radius^2), d being the distance in pixels and v the picture's mean
    squared difference between neighbours, which is how GrabCut sets its beta.
    """

    def __init__(self, colours: Tensor, radius: int) -> None:
        """`colours`: [3, h, w]."""
        self.size = (int(colours.shape[-2]), int(colours.shape[-1]))
        shifts = [shift for shift in _half_window(radius) if shift[0] < self.size[0] and abs(shift[1]) < self.size[1]]
        squares = [(a - b).square().sum(dim=0) for a, b in (_pairs(colours, shift) for shift in shifts)]
        total = sum(float(s.sum()) for s in squares)
        v = max(1.0, total / max(1, sum(s.numel() for s in squares)))
        self.weights = [
            (shift, torch.exp(-s / (2 * v)) * math.exp(-(shift[0] ** 2 + shift[1] ** 2) / (2 * radius**2)))
            for shift, s in zip(shifts, squares, strict=True)
        ]
        self.total = 1 + self._neighbours(torch.ones_like(colours[:1]))

    def __call__(self, values: Tensor) -> Tensor:
        """[K, h w] -> [K, h w]."""
        planes = values.reshape(-1, *self.size)
        return ((planes + self._neighbours(planes)) / self.total).flatten(1)

    def _neighbours(self, planes: Tensor) -> Tensor:
        found = torch.zeros_like(planes)
        for shift, weight in self.weights:
            (here, there), (to_here, to_there) = _pairs(planes, shift), _pairs(found, shift)
            to_here.addcmul_(there, weight)
            to_there.addcmul_(here, weight)
        return found


def _half_window(radius: int) -> Iterator[tuple[int, int]]:
    """Half of the shifts within a square window; the other half are their opposites."""
    return ((y, x) for y in range(radius + 1) for x in range(-radius, radius + 1) if y > 0 or x > 0)


def _pairs(planes: Tensor, shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two views of [..., h, w] in which equal places lie `shift` apart."""
    (y, x), (height, width) = shift, planes.shape[-2:]
    if x >= 0:
        return planes[..., : height - y, : width - x], planes[..., y:, x:]
    return planes[..., : height - y, -x:], planes[..., y:, : width + x]


def _softened(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [K, H, W]; what lies outside is like the border."""
    reach = math.ceil(2 * sigma)
    height, width = (2 * min(reach, int(side) - 1) + 1 for side in planes.shape[-2:])
    return gaussian_blur2d(planes.unsqueeze(0), (height, width), (sigma, sigma), border_type="replicate")[0]


def _working_size(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrunk(planes: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(planes.shape[-2:]) == size:
        return planes
    return F.interpolate(planes.unsqueeze(0), size, mode="area")[0]
