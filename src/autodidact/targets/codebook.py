"""Discrete codes of vectors: the nearest of k centroids, found by k-means."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.objectives.shards import gathered, shard_sizes
from autodidact.targets.clusters import kmeans, nearest_centroids


class Codebook(nn.Module):
    """k centroids, which are a part of the state and are not trained.

    Until `fit` they are drawn at random.

    Parameters
    ----------
    codes : k.
    width : size of a vector.
    """

    centroids: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        if codes < 2 or width < 1:
            raise ValueError(f"a codebook needs codes >= 2 and width >= 1, got {codes} and {width}")
        self.register_buffer("centroids", torch.randn(codes, width))

    def __len__(self) -> int:
        return len(self.centroids)

    @torch.no_grad()
    def fit(self, rows: Float[Tensor, "m d"], generator: torch.Generator, *, iterations: int = 20) -> None:
        """Centroids by k-means of the rows; under a process group, those of the first process on all.

        Raises ValueError for fewer rows than codes.
        """
        if len(rows) < len(self):
            raise ValueError(
                f"{len(self)} codes need at least as many patches, this data has {len(rows)}: ask for less"
            )
        found = kmeans(rows, len(self), generator=generator, iterations=iterations).centroids.to(self.centroids)
        self.centroids.copy_(gathered(found, shard_sizes(len(found), found.device))[0])

    def forward(self, x: Float[Tensor, "*n d"]) -> Int[Tensor, "*n"]:
        """The code of each vector: the index of the nearest centroid."""
        return nearest_centroids(x.reshape(-1, x.shape[-1]), self.centroids).view(x.shape[:-1])

    def decode(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The centroid of each code."""
        return self.centroids[codes]


class Reservoir:
    """A uniform sample without replacement of at most `size` rows of all that are shown to it, batch by batch.

    Parameters
    ----------
    size : rows kept, >= 1.
    generator : where the choice comes from.

    Attributes
    ----------
    rows : the sample so far, (at most size, d); None before the first batch.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        if size < 1:
            raise ValueError(f"a reservoir keeps at least 1 row, got {size}")
        self.size, self.generator = size, generator
        self.rows: Tensor | None = None
        self._keys = torch.empty(0, device=generator.device)

    def show(self, rows: Float[Tensor, "m d"]) -> None:
        """Every row gets a random key, and those of the largest keys stay."""
        keys = torch.rand(len(rows), generator=self.generator, device=self.generator.device)
        keys = torch.cat((self._keys, keys))
        all_rows = rows if self.rows is None else torch.cat((self.rows, rows))
        self._keys, chosen = keys.topk(min(self.size, len(keys)))
        self.rows = all_rows[chosen.to(rows.device)]
