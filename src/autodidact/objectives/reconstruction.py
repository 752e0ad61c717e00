"""Objectives that compare a prediction with a target of the same shape: pixels, or a teacher's latents."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.shards import mean_over_rows


def masked_reconstruction(
    prediction: Float[Tensor, "*shape"],
    target: Shaped[Tensor, "*shape"],
    mask: Bool[Tensor, "..."] | Shaped[Tensor, "..."] | None = None,
    *,
    norm: Literal["l1", "l2"] = "l1",
    region: Literal["masked", "all"] = "masked",
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Mean error over the corrupted entries (GMML, arXiv 2205.14986, section 3).

    :math:`\sum |\hat x - x|\, m / \sum m` over all samples, channels and positions; under ``norm="l2"`` the squared
    difference takes the place of the absolute one. Nothing masked gives 0, with a gradient of 0.

    Parameters
    ----------
    prediction, target : tensors of one shape, such as (N, C, H, W) or (N, T, D)
        Integer targets are converted. No gradient is stopped.
    mask : bool or 0/1 tensor that broadcasts to that shape, such as (N, 1, H, W)
        True where the input was corrupted. Left out where prediction and target hold nothing but such entries.
    norm : "l1" or "l2"
    region : "masked" or "all"
        "all" averages over every entry, corrupted or not.
    gather : bool
        Under a process group, the mean is over the entries of all processes, which may have corrupted more or fewer.

    Raises
    ------
    ValueError
        Shapes that differ, a mask that does not broadcast, an unknown norm or region.
    """
    _check_same_shape("masked_reconstruction", prediction, target)
    if norm not in ("l1", "l2"):
        raise ValueError(f"masked_reconstruction: norm must be 'l1' or 'l2', got {norm!r}")
    if region not in ("masked", "all"):
        raise ValueError(f"masked_reconstruction: region must be 'masked' or 'all', got {region!r}")
    difference = full_precision(prediction) - full_precision(target)
    error = difference.abs() if norm == "l1" else difference.square()
    if region == "all" or mask is None:
        return mean_over_rows(error.flatten(), gather)
    try:
        inside = mask.to(torch.bool).expand_as(error)
    except RuntimeError:
        raise ValueError(
            f"masked_reconstruction: mask of shape {tuple(mask.shape)} does not broadcast to {tuple(error.shape)}"
        ) from None
    # where() rather than a product, so that NaN outside the mask stays outside.
    return mean_over_rows(error.flatten(), gather, counted=inside.flatten())


def latent_mse(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], *, gather: bool = True
) -> Float[Tensor, ""]:
    r"""Mean squared error between predicted and teacher latents (T-JEPA, arXiv 2410.05016, section 3).

    :math:`\|g(\cdot) - \mathrm{sg}[h]\|^2` averaged over rows, target sets, columns and dimensions, with `gather`
    those of all processes. No gradient reaches `target`.

    Raises
    ------
    ValueError
        Shapes that differ (nothing is broadcast).
    """
    _check_same_shape("latent_mse", prediction, target)
    error = (full_precision(prediction) - full_precision(target.detach())).square()
    return mean_over_rows(error.flatten(), gather)


def latent_smooth_l1(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], beta: float = 1.0, *, gather: bool = True
) -> Float[Tensor, ""]:
    r"""Mean smooth L1 distance between predicted and teacher latents (data2vec, arXiv 2202.03555, section 3.3).

    With d their difference, :math:`d^2 / (2 \beta)` where :math:`|d| \le \beta`, else :math:`|d| - \beta / 2`; averaged
    over all entries, with `gather` those of all processes. No gradient reaches `target`.

    Raises
    ------
    ValueError
        Shapes that differ, beta that is not positive.
    """
    _check_same_shape("latent_smooth_l1", prediction, target)
    if not beta > 0:
        raise ValueError(f"latent_smooth_l1: beta must be positive, got {beta}")
    wanted = full_precision(target.detach())
    error = functional.smooth_l1_loss(full_precision(prediction), wanted, reduction="none", beta=beta)
    return mean_over_rows(error.flatten(), gather)


def _check_same_shape(name: str, prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name}: prediction and target must have one shape, "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
