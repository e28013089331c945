"""What every training needs once: averaged weights, data order, photographs in memory, R1, alarms of a GAN.

Nothing here draws from a global random generator: callers hand in the rows and coins that they drew, so that each
training decides what its randomness derives from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError, GsegkitError, and_more
from gsegkit.images import resize_pixels
from gsegkit.seeds import child_seed

M = TypeVar("M", bound=nn.Module)

# ---- averaged weights ----------------------------------------------------------------------------------------------


class WeightAverage(Generic[M]):
    """Exponential moving average of a module's parameters.

    `torch.optim.swa_utils.AveragedModel` is not used: its decay is a constant, and its names of tensors are its own.

    Args:
        module: what is trained, on its device.
        into: the network that holds the average; None = a copy of `module`.
        copy_buffers: buffers are copied instead of averaged, as StyleGAN2 does; integer ones always are.

    Attributes:
        module: the average, in eval mode, without gradients.
        updates: how many there were.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> average = WeightAverage(net)
        >>> average.update(0.9)
        >>> torch.equal(average.module.weight, net.weight)
        True
    """

    def __init__(self, module: M, into: M | None = None, *, copy_buffers: bool = False) -> None:
        self.module: M = (copy.deepcopy(module) if into is None else into).eval().requires_grad_(False)
        self.updates = 0
        named = [dict((*net.named_parameters(), *net.named_buffers())) for net in (self.module, module)]
        copied = {name for name, _ in module.named_buffers()} if copy_buffers else set()
        copied |= {name for name, value in named[1].items() if not value.is_floating_point()}
        self._averaged = [[net[name] for name in net if name not in copied] for net in named]
        self._copied = [[net[name] for name in net if name in copied] for net in named]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Take the module's present weights in: average = decay * average + (1 - decay) * weights."""
        self.updates += 1
        torch._foreach_lerp_(self._averaged[0], self._averaged[1], 1 - decay)
        if self._copied[0]:
            torch._foreach_copy_(self._copied[0], self._copied[1])

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates.

        Where the decay follows from the step's number, `module` alone can be kept instead.
        """
        return {"steps": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take a state back."""
        self.updates = int(state["steps"])
        self.module.load_state_dict(state["module"])


def rising_decay(decay: float, updates: int) -> float:
    """The smaller of `decay` and (1 + updates) / (10 + updates): short trainings soon forget their random start."""
    return min(decay, (1 + updates) / (10 + updates))


# ---- order of the data ---------------------------------------------------------------------------------------------


class EpochOrder:
    """Which rows a step sees: a function of (seed, step), every epoch a permutation of its own.

    A batch may reach over an epoch's end, so none is short and no row is left out.

    Args:
        count: rows of the data set.
        batch_size: rows of a step; may exceed `count`.
        seed: of the order.
        name: of the random stream.

    Example:
        >>> order = EpochOrder(3, 2, seed=0)
        >>> sorted([*order.rows(0), *order.rows(1)[:1]])
        [0, 1, 2]
    """

    def __init__(self, count: int, batch_size: int, seed: int, name: str = "order") -> None:
        self.count, self.batch_size, self.seed, self.name = count, batch_size, seed, name
        self._orders: dict[int, Tensor] = {}

    def rows(self, step: int) -> list[int]:
        """Rows of one step, [batch_size]."""
        at, end, rows = step * self.batch_size, (step + 1) * self.batch_size, list[int]()
        while at < end:
            epoch, first = divmod(at, self.count)
            rows += self._order(epoch)[first : first + end - at].tolist()
            at = step * self.batch_size + len(rows)
        return rows

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(child_seed(self.seed, self.name, epoch))
            kept = {e: order for e, order in self._orders.items() if e >= epoch - 1}
            self._orders = {**kept, epoch: torch.randperm(self.count, generator=generator)}
        return self._orders[epoch]


# ---- photographs ---------------------------------------------------------------------------------------------------

MEMORY_LIMIT = 4 << 30  # bytes of decoded photographs that a bank keeps; those of a larger folder are read when needed
GPU_SHARE = 0.25  # of a GPU's free memory that a bank may take, so that batches need not be copied there
MAX_BROKEN = 0.02  # share of unreadable files that are skipped
NAMED = 10  # broken files that are named


class ImageBank:
    """The photographs of a training, fitted to one size; the one place that decides what fits in memory.

    All files are read once at the start. Unreadable ones are named in a warning and skipped, up to `max_broken`.
    Photographs of up to `limit` bytes stay in memory as uint8 (on the GPU if they take a quarter of its free memory
    at most); those of a larger folder are read from disk batch by batch, and all of them are still seen.

    Args:
        images: the files.
        size: (height, width) to fit to.
        fit: "squash", "crop" or "pad".
        ctx: progress, warnings.
        least: fewer readable photographs are refused.
        device: where batches go.
        num_classes: 0, or the number of folders: each is a class, in the order of their names.
        max_broken: share of unreadable files above which the folder is refused.
        limit: bytes of memory.

    Attributes:
        labels: [M] int64 class of each photograph, or None.

    Raises:
        DataError: too few photographs, too many unreadable ones, or not as many folders as classes.
    """

    def __init__(
        self,
        images: UnlabelledImages,
        size: tuple[int, int],
        fit: str,
        ctx: RunContext,
        *,
        least: int = 2,
        device: torch.device | None = None,
        num_classes: int = 0,
        max_broken: float = MAX_BROKEN,
        limit: int = MEMORY_LIMIT,
    ) -> None:
        if len(images) < least:
            raise _too_few(len(images), least)
        self.size, self.device = size, device or torch.device("cpu")
        kept = len(images) * 3 * size[0] * size[1] <= limit
        self.files, read = _read(images.fitted(size, fit), kept, max_broken, ctx)
        if len(self.files) < least:
            raise _too_few(len(self.files), least)
        self._pixels = torch.stack(read) if kept else None
        self._to_device()
        self.labels = _folder_classes(self.files, num_classes) if num_classes else None

    @classmethod
    def of_pixels(cls, pixels: Tensor, device: torch.device | None = None) -> ImageBank:
        """A bank of images that are in memory already, [M, 3, H, W] uint8."""
        bank = cls.__new__(cls)
        bank.files, bank.labels, bank._pixels = UnlabelledImages(()), None, pixels
        bank.size, bank.device = (int(pixels.shape[2]), int(pixels.shape[3])), device or torch.device("cpu")
        bank._to_device()
        return bank

    def __len__(self) -> int:
        return len(self._pixels if self._pixels is not None else self.files)

    @property
    def in_memory(self) -> bool:
        """Whether photographs are kept decoded."""
        return self._pixels is not None

    def batch(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Photographs of these rows, [N, 3, H, W] uint8 on the bank's device."""
        if self._pixels is not None:
            found = self._pixels[upload(torch.as_tensor(rows), self._pixels.device)]
        else:
            read = self.files.batch([int(row) for row in rows]) if len(rows) else torch.zeros(0, 3, *self.size).byte()
            found = self._resized(read)
        return upload(found, self.device)

    def resized(self, size: tuple[int, int]) -> ImageBank:
        """The same photographs scaled to another size; shares nothing but the files."""
        other = copy.copy(self)
        other.size = size
        if self._pixels is not None:
            parts = torch.split(self._pixels.cpu(), 1024)  # scaling works in float32
            other._pixels = torch.cat([resize_pixels(part, size) for part in parts])
            other._to_device()
        return other

    def _resized(self, pixels: Tensor) -> Tensor:
        return pixels if tuple(pixels.shape[2:]) == self.size else resize_pixels(pixels, self.size)

    def _to_device(self) -> None:
        if self._pixels is None or self.device.type != "cuda":
            return
        if self._pixels.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            self._pixels = self._pixels.to(self.device)


def flip_where(pixels: Tensor, across: Tensor | None = None, down: Tensor | None = None) -> Tensor:
    """Mirror those of [N, C, H, W] whose coin, [N] bool, is true: left-right (`across`), upside-down (`down`)."""
    for coins, dim in ((across, 3), (down, 2)):
        if coins is not None:
            pixels = torch.where(upload(coins, pixels.device)[:, None, None, None], pixels.flip(dim), pixels)
    return pixels


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor.to(device)`; a plain copy to a GPU would first wait until all work queued there is done."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _too_few(found: int, least: int) -> DataError:
    return DataError(
        f"{found} photographs are too few for this training", f"give at least {least}, some thousands for good results"
    )


def _read(
    images: UnlabelledImages, keep: bool, max_broken: float, ctx: RunContext
) -> tuple[UnlabelledImages, list[Tensor]]:
    """The readable files and, with `keep`, their pixels."""
    read: list[Tensor] = []
    good: list[int] = []
    broken: list[str] = []
    for index in _reading(len(images), ctx):
        try:
            pixels = images[index]
        except GsegkitError as error:
            broken.append(error.message)
            continue
        good.append(index)
        if keep:
            read.append(pixels)
    if broken:
        what = f"{len(broken)} of {len(images)} photographs cannot be read: {and_more(broken, NAMED)}"
        if len(broken) > max_broken * len(images):
            raise DataError(what, "remove them, or copy them again")
        ctx.warn(f"{what}; they are skipped")
    paths = tuple(images.paths[index] for index in good)
    return UnlabelledImages(paths, images.size, images.fit_rule), read


def _reading(count: int, ctx: RunContext) -> Iterator[int]:
    """Indices, with progress. A stop waits for the first step, so that a stopped training always has a checkpoint."""
    ctx.progress.start(f"{ctx.folder.name}: reading photographs", count)
    try:
        for index in range(count):
            yield index
            ctx.progress.advance(index + 1, {})
    finally:
        ctx.progress.finish()


def _folder_classes(images: UnlabelledImages, num_classes: int) -> Tensor:
    folders = sorted({path.parent for path in images.paths})
    if len(folders) != num_classes:
        raise DataError(
            f"a network of {num_classes} classes needs images in {num_classes} folders, found {len(folders)}",
            "one sub-folder per class, or num_classes=0",
        )
    return torch.tensor([folders.index(path.parent) for path in images.paths])


# ---- the discriminator ---------------------------------------------------------------------------------------------


def r1_penalty(discriminator: Callable[[Tensor], Tensor], reals: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): mean over [N, 3, H, W] real images of |grad_x D(x)|^2; times gamma / 2 in a loss."""
    reals = reals.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the gradient of a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@contextmanager
def tuned_convolutions() -> Iterator[None]:
    """Let cuDNN try its algorithms on the first steps: all later ones have the same shapes.

    Not `torch.backends.cudnn.flags(benchmark=True)`, whose other defaults switch cuDNN off.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


# ---- alarms of a GAN -----------------------------------------------------------------------------------------------

WATCH_EVERY = 20  # steps between two looks of the watch; reading a number stalls a GPU
SMOOTHING = 0.9  # of the running means
COLLAPSED = 0.25  # samples vary less than this share of what real images do
WON = 6.0  # mean real logit beyond which D is certain of everything
QUIET = 50  # looks between two warnings of a kind
WARM_UP = 200  # steps before the first warning


class GanWatch:
    """Running means of how much samples vary against real images, and of the discriminator's certainty."""

    def __init__(self) -> None:
        self.variety = 1.0
        self.certainty = 0.0
        self.quiet = {"collapse": 0, "won": 0}
        self._pending: list[str] = []

    def see(self, step: int, reals: Tensor, fakes: Tensor, values: Mapping[str, float | Tensor]) -> None:
        """Look at one step: real and generated [N, 3, H, W] in [-1, 1], and `values["real_logit"]`."""
        if step % WATCH_EVERY:
            return
        ratio = float(fakes.float().std(dim=0).mean() / reals.std(dim=0).mean().clamp_min(1e-6))
        self.variety = SMOOTHING * self.variety + (1 - SMOOTHING) * ratio
        self.certainty = SMOOTHING * self.certainty + (1 - SMOOTHING) * float(values["real_logit"])
        self.quiet = {kind: max(0, count - 1) for kind, count in self.quiet.items()}
        if step < WARM_UP:
            return
        if self.variety < COLLAPSED:
            self._warn("collapse", f"samples vary only {self.variety:.0%} as much as the photographs: collapse?")
        if self.certainty > WON:
            self._warn("won", f"the discriminator is certain (mean real logit {self.certainty:.1f}): raise r1_gamma")

    def warnings(self) -> list[str]:
        """Warnings since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"variety": self.variety, "certainty": self.certainty, "quiet": dict(self.quiet)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take a state back."""
        self.variety, self.certainty = float(state["variety"]), float(state["certainty"])
        self.quiet = {kind: int(count) for kind, count in state["quiet"].items()}

    def _warn(self, kind: str, text: str) -> None:
        if self.quiet[kind] == 0:
            self._pending.append(text)
            self.quiet[kind] = QUIET
