"""Gaussian blur, each sample with its own standard deviation.

Separable. On a CPU it is made of shifted additions over contiguous memory: for the few taps that matter a convolution
kernel is slower there. On an accelerator each of them would read and write the whole batch once more, and a matrix
product a side does the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from autodidact.views.scratch import Scratch

# Weight of the taps left out of a blur: no pixel changes by more than this, a fortieth of a step of 8 bits.
_NEGLIGIBLE = 1e-4


def gaussian_blur(x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], kernel: int) -> Float[Tensor, "n c h w"]:
    """Blur with a sampled Gaussian of standard deviation `sigma` pixels over `kernel` x `kernel` taps, edges reflected.

    Equals torchvision's `gaussian_blur(kernel_size=kernel, sigma=sigma)` to 1e-4: outer taps that together weigh less
    are left out, so a small sigma costs little whatever the kernel. A sigma of 0 leaves the sample unchanged.

    Parameters
    ----------
    x : float tensor (n, c, h, w)
    sigma : float tensor (n,)
        Standard deviation in pixels.
    kernel : int
        Taps, odd. Half of it must be smaller than the image's sides, for reflection.
    """
    if kernel // 2 >= min(x.shape[2:]):
        raise ValueError(
            f"the blur kernel must be at most {2 * min(x.shape[2:]) - 1} taps for images of "
            f"{x.shape[2]} x {x.shape[3]} pixels, got {kernel}"
        )
    return convolve_(x.clone(), gaussian_taps(sigma, kernel).to(x.device), Scratch())


def gaussian_taps(sigma: Float[Tensor, " n"], kernel: int) -> Float[Tensor, "n taps"]:
    """Weights of the centre and of the taps to one side, (kernel + 1) / 2 of them, the negligible set to 0."""
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the blur kernel must be an odd number of taps, got {kernel}")
    at = torch.arange(kernel // 2 + 1, device=sigma.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (at / sigma.to(torch.float32).clamp(min=1e-3)[:, None]) ** 2)
    total = 2 * weights.sum(dim=1, keepdim=True) - 1
    beyond = 2 * weights.flip(1).cumsum(1).flip(1) / total
    weights = torch.where(beyond > _NEGLIGIBLE, weights, 0.0)
    return weights / (2 * weights.sum(dim=1, keepdim=True) - 1)


def convolve_(x: Float[Tensor, "n c h w"], taps: Float[Tensor, "n taps"], scratch: Scratch) -> Float[Tensor, "n c h w"]:
    """Convolve each sample along both axes with its own symmetric taps, edges reflected, in place."""
    if taps.shape[1] == 1:
        return x
    return (by_additions_ if x.device.type == "cpu" else by_products_)(x, taps, scratch)


def by_additions_(
    x: Float[Tensor, "n c h w"], taps: Float[Tensor, "n taps"], scratch: Scratch
) -> Float[Tensor, "n c h w"]:
    """`convolve_` as a sum of shifted images."""
    n, c, h, w = x.shape
    r = taps.shape[1] - 1
    padded = F.pad(x, (r, r, r, r), mode="reflect")
    shape = (n, c, h, w + 2 * r)
    tall = scratch.take("tall", shape, x.device)
    _weigh(padded, 2, h, taps, tall)
    # Across, all rows of a sample are one line: a shift by k pixels is then one contiguous read. What spills over from
    # row to row lands in the padding, which is cut off.
    line, wide = tall.view(n, -1), padded.view(n, -1)[:, : tall[0].numel()]
    length = line.shape[1] - 2 * r
    _weigh(line, 1, length, taps, wide[:, r : r + length])
    return x.copy_(wide.unflatten(1, shape[1:])[..., r : r + w])


def by_products_(
    x: Float[Tensor, "n c h w"], taps: Float[Tensor, "n taps"], scratch: Scratch
) -> Float[Tensor, "n c h w"]:
    """`convolve_` as one matrix product along each axis."""
    n, c, h, w = x.shape
    rows, columns = blur_matrix(taps, h), blur_matrix(taps, w)
    across = scratch.take("tall", (n, c * h, w), x.device)
    torch.bmm(x.view(n, c * h, w), columns.transpose(1, 2), out=across)
    return torch.matmul(rows[:, None], across.view(n, c, h, w), out=x)


def blur_matrix(taps: Float[Tensor, "n taps"], side: int) -> Float[Tensor, "n side side"]:
    """Matrices that convolve a line of `side` pixels with symmetric taps, mirrored at its ends.

    Pixel j weighs in pixel i by its distance |i - j|, and as its own image beyond the first pixel, i + j away, or
    beyond the last, 2 (side - 1) - i - j away; the first and the last pixel have no image on their own side.
    """
    r = taps.shape[1] - 1
    at = torch.arange(side, device=taps.device)
    i, j = at[:, None], at
    weights = F.pad(taps, (0, 1))

    def weight(distance: Tensor) -> Tensor:
        return weights[:, distance.clamp(max=r + 1)]

    mirrored = torch.where(j == 0, r + 1, i + j), torch.where(j == side - 1, r + 1, 2 * (side - 1) - i - j)
    return weight((i - j).abs()).add_(weight(mirrored[0])).add_(weight(mirrored[1]))


def _weigh(source: Tensor, axis: int, length: int, taps: Tensor, out: Tensor) -> None:
    """out[i] = sum over k of taps[|k|] * source[r + i + k] along `axis`, r the taps to one side."""
    r = taps.shape[1] - 1
    shifted = source.unfold(axis, length, 1).unbind(axis)
    out = out.movedim(axis, -1)
    weights = [tap.view(-1, *[1] * (source.dim() - 1)) for tap in taps.unbind(1)]
    torch.mul(shifted[r], weights[0], out=out)
    for k in range(1, r + 1):
        out.addcmul_(shifted[r + k], weights[k]).addcmul_(shifted[r - k], weights[k])
