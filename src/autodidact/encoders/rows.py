"""Rows of a table as an encoder takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Rows:
    """Numeric and categorical columns side by side; the column order is numeric first, then categorical.

    Attributes
    ----------
    numeric : raw values, NaN where missing; zero columns where the table has none.
    categorical : category indices, -1 where missing; zero columns where the table has none.
    """

    numeric: Float[Tensor, "n p"]
    categorical: Int[Tensor, "n q"]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Rows:
        """Take the fields "numeric" and "categorical" of a batch; one of them may be absent."""
        present = next((fields[name] for name in ("numeric", "categorical") if name in fields), None)
        if present is None:
            raise ValueError(f"a table encoder reads 'numeric' and 'categorical'; the batch has {', '.join(fields)}")
        # Not len(): a traced graph must keep the number of rows free.
        n, device = present.shape[0], present.device
        numeric = fields["numeric"] if "numeric" in fields else torch.empty(n, 0, device=device)
        categorical = (
            fields["categorical"] if "categorical" in fields else torch.empty(n, 0, dtype=torch.long, device=device)
        )
        return cls(numeric.float(), categorical.long())

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        """Rows one after another."""
        return cls(torch.cat([p.numeric for p in parts]), torch.cat([p.categorical for p in parts]))

    @property
    def columns(self) -> int:
        """Number of columns of both kinds."""
        return self.numeric.shape[1] + self.categorical.shape[1]

    @property
    def device(self) -> torch.device:
        return self.numeric.device

    def __len__(self) -> int:
        return len(self.numeric)

    def select(self, index: Tensor) -> Rows:
        """The rows at positions `index`."""
        return Rows(self.numeric[index], self.categorical[index])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Rows:
        return Rows(
            self.numeric.to(device, non_blocking=non_blocking), self.categorical.to(device, non_blocking=non_blocking)
        )
