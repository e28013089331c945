"""3x3 convolution with a third of the multiplications, for sampling on a CPU.

Winograd's minimal filtering F(4x4, 3x3) as in Lavin and Gray 2016 (arXiv:1509.09308): tiles of 6x6 inputs and the
kernels are transformed, multiplied value by value (36 products in the place of 144), summed over channels as 36 matrix
products, and transformed back to 4x4 outputs. Rounding errors are a few times those of the direct sum, see the tests.

    Y = A^T [ (G g G^T) * (B^T d B) ] A

Measured beside torch's convolution on one thread in benchmarks/generators.py; where it does not pay, torch's is taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Interpolation points 0, 1, -1, 2, -2 and infinity.
B_T = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
       (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))  # fmt: skip
G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
     (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
A_T = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
TILE, WINDOW = 4, 6
TILES = 128  # a chunk: enough rows for a matrix product, and buffers that stay in the cache
BLOCK = 16 << 20  # bytes: larger blocks of memory are new ones at every call, and cost more than what fills them
FEWEST_CHANNELS = 64  # below that the transforms cost more than they save
FEWEST_PIXELS = 24 * 24  # and below that the transform of the kernels does


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1) -> Tensor:
    """`F.conv2d` of a 3x3 kernel; the faster way where no gradient is asked.

    Args:
        x: [N, I, h, w].
        weight: [O, I, 3, 3].
        bias: [O].
        padding: zeros on each side.

    Returns:
        [N, O, h + 2 padding - 2, w + 2 padding - 2], dtype of x.
    """
    if not _pays(x, weight):
        return F.conv2d(x, weight, bias, padding=padding)
    made = winograd(x, weight, padding)
    return made if bias is None else made.add_(bias[:, None, None])


def _pays(x: Tensor, weight: Tensor) -> bool:
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not plain or x.requires_grad or weight.requires_grad:
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return min(weight.shape[:2]) >= FEWEST_CHANNELS and x.shape[2] * x.shape[3] >= FEWEST_PIXELS


def winograd(x: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    """The convolution itself, of any size; [N, O, H, W] in channels-last strides."""
    images = x.permute(0, 2, 3, 1)  # [N,h,w,I]
    n, height, width, inputs = images.shape
    height, width = height + 2 * padding - 2, width + 2 * padding - 2
    rows, columns = -(-height // TILE), -(-width // TILE)
    kernels = transformed(weight)
    made = x.new_empty(n, rows * TILE, columns * TILE, len(weight))
    chunk = min(rows, max(1, TILES // columns))
    padded = x.new_zeros(chunk * TILE + 2, columns * TILE + 2, inputs)
    for source, target in zip(images, made, strict=True):
        for row in range(0, rows, chunk):
            count = min(chunk, rows - row)
            _copy_rows(source, padded, row * TILE - padding, padding)
            tiles = _products(_windows(padded, count, columns), kernels)  # [x,y,row,column,O]
            part = target[row * TILE : (row + count) * TILE].view(count, TILE, columns, TILE, -1)
            part.copy_(tiles.permute(2, 1, 3, 0, 4))
    return made[:, :height, :width].permute(0, 3, 1, 2)


def transformed(weight: Tensor) -> list[Tensor]:
    """G g G^T of every kernel, [O, I, 3, 3] -> [36, I, O] in blocks of rows; the first factor of 36 runs along x."""
    outputs, inputs = weight.shape[:2]
    g = weight.new_tensor(G)
    both = torch.einsum("xi,yj->xyij", g, g).reshape(WINDOW**2, 9)
    taps = weight.permute(3, 2, 0, 1).reshape(9, outputs * inputs)
    blocks = both.split(max(1, BLOCK // (taps.shape[1] * taps.element_size())))
    return [(block @ taps).view(len(block), outputs, inputs).transpose(1, 2) for block in blocks]


def _copy_rows(source: Tensor, padded: Tensor, first: int, padding: int) -> None:
    """Fill `padded` with the rows from number `first` on; what lies outside [h, w, I] is zero."""
    height, width = source.shape[:2]
    low, high = max(first, 0), min(first + len(padded), height)
    padded[: low - first].zero_()
    padded[high - first :].zero_()
    padded[low - first : high - first, padding : padding + width] = source[low:high]


def _windows(padded: Tensor, rows: int, columns: int) -> Tensor:
    """Overlapping 6x6 windows, 4 apart: [6, 6, rows, columns, I], x before y."""
    down, right, _ = padded.stride()
    strides = (right, down, TILE * down, TILE * right, 1)
    return padded.as_strided((WINDOW, WINDOW, rows, columns, padded.shape[2]), strides)


def _products(windows: Tensor, kernels: list[Tensor]) -> Tensor:
    """[6, 6, rows, columns, I] -> [4, 4, rows, columns, O]."""
    rows, columns, inputs = windows.shape[2:]
    b, a = windows.new_tensor(B_T), windows.new_tensor(A_T)
    d = (b @ windows.reshape(WINDOW, -1)).view(WINDOW, WINDOW, -1)
    d = (b.expand(WINDOW, -1, -1) @ d).view(WINDOW**2, rows * columns, inputs)
    m = d.new_empty(WINDOW**2, rows * columns, kernels[0].shape[2])
    sizes = [len(block) for block in kernels]
    for source, block, target in zip(d.split(sizes), kernels, m.split(sizes), strict=True):
        torch.bmm(source, block, out=target)
    m = (a @ m.view(WINDOW, -1)).view(TILE, WINDOW, -1)
    return (a.expand(TILE, -1, -1) @ m).view(TILE, TILE, rows, columns, -1)
