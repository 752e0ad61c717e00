"""Column subsets of T-JEPA (arXiv 2410.05016): which columns of a table row are seen and which are to be predicted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from autodidact.views.parcel import sent


class ColumnSubsets(NamedTuple):
    """Column numbers, from 0 to D - 1, in random order within a set."""

    context: Int[Tensor, "n context"]
    targets: Int[Tensor, "n sets target"]


def column_subsets(
    n: int,
    columns: int,
    generator: torch.Generator,
    *,
    context_share: tuple[float, float] = (0.136, 0.368),
    target_share: tuple[float, float] = (0.156, 0.622),
    targets: int = 4,
    released: bool = False,
    device: torch.device | str | None = None,
) -> ColumnSubsets:
    """Draw a context set and `targets` target sets of columns for each of `n` rows.

    Sizes are drawn once for the batch, so that rows stack: n_ctx = round(u), u uniform on [round(D * low),
    round(D * high)], n_trg likewise, under the condition n_ctx + n_trg <= D. The pair comes from that conditional
    distribution directly, which is what redrawing until it fits would give, without a loop. Then, for each row, the
    context is n_ctx columns without replacement, and each target set n_trg columns without replacement from the rest:
    target sets may overlap each other and never the context.

    Parameters
    ----------
    n, columns : int
        Rows of the batch, and columns D of the table.
    generator : torch.Generator
        The only source of randomness.
    context_share, target_share : (low, high)
        Share of the columns in the context, and in a target set, 0 < low <= high <= 1. Defaults: the authors' launch
        script.
    targets : int
        Target sets for each row, P >= 1. Paper: 4.
    released : bool
        Mask as the authors' released code does, for comparison. It differs in two ways: the P target sets of a row are
        one and the same set; and the numbers returned address the tokens [REG, column 1, ...] directly, so 0 is the
        regularisation token, treated as if it were a column, and the last column is never drawn. By default the target
        sets are independent and the numbers are columns: the token of column j is at j + R behind R regularisation
        tokens, which every encoder always keeps.
    device : device, optional
        Where the indices are put; the generator's device if left out.

    Raises
    ------
    ValueError
        When a share is out of range or its ends are swapped, when a smallest set rounds to no column, or when no
        pair of sizes fits in D columns.
    """
    if targets < 1:
        raise ValueError(f"targets must be at least 1 set for each row, got {targets}")
    context_sizes = _size_range("context_share", context_share, columns)
    target_sizes = _size_range("target_share", target_share, columns)
    if context_sizes[0] + target_sizes[0] > columns:
        raise ValueError(
            f"no sizes fit: the smallest context ({context_sizes[0]}) and the smallest target set ({target_sizes[0]}) "
            f"need {context_sizes[0] + target_sizes[0]} columns, the table has {columns}; lower the shares"
        )
    home = generator.device
    n_context, n_target = _draw_sizes(context_sizes, target_sizes, columns, generator)
    order = torch.rand(n, columns, generator=generator, device=home).argsort(dim=1)
    context, rest = order[:, :n_context], order[:, n_context:]
    sets = 1 if released else targets
    chosen = torch.rand(n, sets, columns - n_context, generator=generator, device=home).argsort(dim=2)[..., :n_target]
    target = rest[:, None].expand(-1, sets, -1).gather(2, chosen).expand(-1, targets, -1)
    return ColumnSubsets(sent(context, device or home), sent(target, device or home))


def _size_range(name: str, share: tuple[float, float], columns: int) -> tuple[int, int]:
    low, high = share
    if not 0 < low <= high <= 1:
        raise ValueError(f"{name} must be 0 < low <= high <= 1, got {share}")
    least = round(columns * low)
    if least < 1:
        raise ValueError(
            f"{name} starts at {low} of {columns} columns, which rounds to no column at all: "
            f"raise it to at least {0.5 / columns:.3g}"
            if columns
            else f"{name}: the table has no columns"
        )
    return least, round(columns * high)


def _draw_sizes(
    context: tuple[int, int], target: tuple[int, int], columns: int, generator: torch.Generator
) -> tuple[int, int]:
    """One pair of sizes from the product of the two rounded uniforms, given that their sum is at most `columns`."""
    first, second = (_rounded_uniform(*sizes) for sizes in (context, target))
    fits = torch.arange(context[0], context[1] + 1)[:, None] + torch.arange(target[0], target[1] + 1) <= columns
    cumulative = (first[:, None] * second * fits).flatten().cumsum(0)
    u = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).cpu()
    drawn = int(torch.searchsorted(cumulative, u * cumulative[-1], right=True))
    return context[0] + drawn // len(second), target[0] + drawn % len(second)


def _rounded_uniform(low: int, high: int) -> Tensor:
    """Probabilities of round(u) = low, ..., high for u uniform on [low, high]: the two ends get half a share each."""
    weights = torch.ones(high - low + 1, dtype=torch.float64)
    if high > low:
        weights[0] = weights[-1] = 0.5
    return weights / weights.sum()
