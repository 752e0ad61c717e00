"""Table encoders: a transformer over columns (the tokenizer and encoder of T-JEPA), and a plain MLP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.data.schema import Field, Kind, Schema
from autodidact.encoders.rows import Rows
from autodidact.encoders.statistics import statistic
from autodidact.heads import Tail, TransformerLayer, initialise, sinusoidal
from autodidact.model import Encoded, Encoder, Masked
from autodidact.views import gather_tokens

Pool = Literal["mean", "reg", "flat"]


class TableEncoder(Encoder):
    """What all table encoders share: the columns they were built for, and the range of the numeric ones.

    Numeric columns are brought to [0, 1] by (x - min) / (max - min) of the data the encoder was built on; a column
    that never varied is only shifted. Values outside the range are not clipped.

    Parameters
    ----------
    spec : "table": the fields "numeric" and "categorical" of the schema, as plain data; "minimum", "maximum" per
        numeric column.
    """

    accepts: Kind = "numeric"
    minimum: Tensor
    maximum: Tensor
    sizes: Tensor

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.spec = dict(spec)
        table = Schema.from_plain(spec["table"])
        self.numeric_names = _names(table.get("numeric"), "numeric")
        self.categorical_names = _names(table.get("categorical"), "categorical")
        self.cardinalities = table["categorical"].cardinalities if "categorical" in table else ()
        self.categories = table["categorical"].categories if "categorical" in table else ()
        self.columns = len(self.numeric_names) + len(self.categorical_names)
        self.register_buffer("sizes", torch.tensor(self.cardinalities, dtype=torch.long), persistent=False)
        self.register_buffer("minimum", torch.tensor(spec["minimum"], dtype=torch.float32))
        self.register_buffer("maximum", torch.tensor(spec["maximum"], dtype=torch.float32))

    def prepare(self, fields: Mapping[str, Any]) -> Rows:
        """The columns of a batch. A category that the encoder has never seen raises ValueError."""
        rows = Rows.of(fields)
        given = rows.numeric.shape[1], rows.categorical.shape[1]
        if given != (len(self.numeric_names), len(self.categorical_names)):
            raise ValueError(
                f"{self.name} was built for {len(self.numeric_names)} numeric and {len(self.categorical_names)} "
                f"categorical columns, this table has {given[0]} and {given[1]}"
            )
        unseen = rows.categorical >= self.sizes.to(rows.device)
        if unseen.any():
            column = int(unseen.any(dim=0).nonzero()[0])
            raise ValueError(
                f"column '{self.categorical_names[column]}' has category {int(rows.categorical[:, column].max())}, but "
                f"the encoder knows only 0 to {self.cardinalities[column] - 1}; give unseen categories as missing (-1)"
            )
        return rows

    def fits(self, schema: Schema) -> None:
        for kind, names in (("numeric", self.numeric_names), ("categorical", self.categorical_names)):
            given = _names(schema.get(kind), kind)
            if given != names:
                missing = [name for name in names if name not in given]
                extra = [name for name in given if name not in names]
                raise ValueError(
                    f"{self.name} was built for other {kind} columns"
                    + (f"; missing here: {', '.join(missing)}" if missing else "")
                    + (f"; unknown to it: {', '.join(extra)}" if extra else "")
                    + ("" if missing or extra else "; they are in another order")
                )

        categories = schema["categorical"].categories if "categorical" in schema else ()
        for name, known, found in zip(self.categorical_names, self.categories, categories, strict=False):
            if tuple(known) != tuple(found):
                raise ValueError(
                    f"column '{name}' has other categories than {self.name} was built for ({', '.join(known[:6])}); "
                    "open this data with the schema of the data that the encoder was built for, to number them alike"
                )

    def scaled(self, rows: Rows) -> Float[Tensor, "n p"]:
        """Numeric columns by their range; NaN stays NaN."""
        span = self.maximum - self.minimum
        return (rows.numeric - self.minimum) / torch.where(span > 0, span, torch.ones_like(span))


class TabularTransformer(TableEncoder):
    """A token a column, then post-norm transformer layers; T-JEPA (2410.05016) and its released code.

    Tokenizer (FT-Transformer, 2106.11959, section 3.3): a numeric column is x_j * w_j + b_j, a categorical one
    Emb_j[x_j] + b_j, in R^width. A missing value is a learned vector of that column instead of the value's part; that
    of a numeric column starts as the middle of its range. Token order is the regularisation tokens [REG] (learned,
    without a bias), numeric columns, categorical columns; a fixed sinusoidal position by token index with frequency
    base 100 is added. The tail is dropout, LayerNorm, Linear, dropout, LayerNorm.

    `keep` holds column indices (numeric first): the other columns are never computed with, so the outputs do not depend
    on them; [REG] always stays. `masked` replaces what a column's token says of its value; b_j, which says what column
    it is, stays with its position. ``Encoded.tokens`` are the columns, ``Encoded.prefix`` is [REG].

    Parameters
    ----------
    width : size of a token, H. Published runs: 2 to 128, 64 for Jannis.
    depth : number of layers. Published: 1 to 16.
    heads : attention heads.
    hidden : width of the layers' MLP.
    dropout : probability; published about 0.002.
    reg : number of [REG] tokens.
    pool : the embedding: "mean" of the column tokens, "reg": mean of the [REG] tokens, "flat": all column tokens side
        by side (``columns * width`` values, the input of the paper's probes).
    """

    any_tokens = True

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        hidden: int = 64,
        dropout: float = 0.0,
        reg: int = 1,
        pool: Pool = "mean",
    ) -> None:
        super().__init__(spec)
        self.offsets: Tensor
        self.positions: Tensor
        if pool == "reg" and reg < 1:
            raise ValueError("pool='reg' needs at least one [REG] token")
        p, q = len(self.numeric_names), len(self.categorical_names)
        self.reg_count, self.pool = reg, pool
        self.reg = nn.Parameter(torch.empty(reg, width))
        self.weight = nn.Parameter(torch.empty(p, width))
        self.bias = nn.Parameter(torch.empty(p + q, width))
        self.missing = nn.Parameter(torch.empty(p + q, width))
        # One table for all categorical columns: one look-up, whatever their number.
        self.embedding = nn.Embedding(max(1, sum(self.cardinalities)), width)
        offsets = torch.tensor([0, *self.cardinalities[:-1]] if q else [], dtype=torch.long).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        positions = sinusoidal(torch.arange(reg + p + q), width, base=100.0)
        self.register_buffer("positions", positions, persistent=False)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, hidden, dropout=dropout) for _ in range(depth))
        self.tail = Tail(width, dropout)
        for parameter in (self.reg, self.weight, self.bias, self.missing, self.embedding.weight):
            # Uniform in 1/sqrt(width), as FT-Transformer initialises its tokenizer.
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)
        with torch.no_grad():
            # A missing number starts as the middle of its range. A vector of its own would start farther from all
            # values than they are from each other, and which cells are missing would drown what the others hold.
            self.missing[:p] = self.weight / 2
        initialise(self.layers)
        initialise(self.tail)
        self.token_width, self.depth = width, depth
        self.width = (p + q) * width if pool == "flat" else width

    def tokenise(self, rows: Rows, masked: Masked | None = None) -> Float[Tensor, "n t d"]:
        """Column tokens with their positions, [REG] not among them."""
        numeric = self.scaled(rows)
        p = numeric.shape[1]
        present = ~numeric.isnan()
        valued = numeric.nan_to_num()[..., None] * self.weight
        tokens = torch.where(present[..., None], valued, self.missing[:p])
        if rows.categorical.shape[1]:
            index = rows.categorical
            embedded = self.embedding(index.clamp(min=0) + self.offsets)
            tokens = torch.cat((tokens, torch.where((index >= 0)[..., None], embedded, self.missing[p:])), dim=1)
        if masked is not None:
            tokens = masked.put(tokens)
        return tokens + self.bias + self.positions[self.reg_count :]

    def forward(
        self,
        inputs: Rows,
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.no_unplaced(unplaced)
        self.need_tap(taps)
        tokens = self.tokenise(inputs, masked)
        if keep is not None:
            tokens = gather_tokens(tokens, keep)
        reg = (self.reg + self.positions[: self.reg_count]).to(tokens.dtype)
        x = torch.cat((reg.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        tapped = {}
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in taps:
                tapped[index] = x[:, self.reg_count :]
        x = self.tail(x)
        prefix, tokens = x[:, : self.reg_count], x[:, self.reg_count :]
        if self.pool == "flat":
            # Rows of which only some columns were kept have no place for the others.
            pooled = tokens.flatten(1) if keep is None else None
        else:
            pooled = (prefix if self.pool == "reg" else tokens).mean(dim=1)
        return Encoded(pooled=pooled, tokens=tokens, prefix=prefix, taps=tapped)


class TabularMLP(TableEncoder):
    """A plain MLP on the scaled numeric columns and one-hot categories; the baseline for tables.

    A missing number is 0.5 (the middle of its range) with an indicator beside it; a missing category is all zeros.

    Parameters
    ----------
    width : size of the embedding and of the hidden layers.
    depth : number of (Linear, BatchNorm, ReLU) layers.
    dropout : probability after each layer.
    """

    def __init__(self, spec: Mapping[str, Any], *, width: int = 128, depth: int = 3, dropout: float = 0.0) -> None:
        super().__init__(spec)
        size = 2 * len(self.numeric_names) + sum(self.cardinalities)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(size if index == 0 else width, width, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
            )
            for index in range(depth)
        )
        self.width, self.depth = width, depth

    def forward(
        self,
        inputs: Rows,
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.no_keep(keep)
        self.no_masked(masked)
        self.no_unplaced(unplaced)
        self.need_tap(taps)
        numeric = self.scaled(inputs)
        missing = numeric.isnan()
        parts = [torch.where(missing, torch.full_like(numeric, 0.5), numeric), missing.to(numeric.dtype)]
        for index, size in enumerate(self.cardinalities):
            categories = torch.arange(size, device=numeric.device)
            parts.append((inputs.categorical[:, index, None] == categories).to(numeric.dtype))
        x = torch.cat(parts, dim=1)
        tapped = {}
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in taps:
                tapped[index] = x
        return Encoded(pooled=x, taps=tapped)


def table_spec(name: str, args: Mapping[str, Any], *, schema: Schema | None, statistics: Any) -> dict[str, Any]:
    """The spec of a table encoder, from the data's schema and statistics.

    Parameters
    ----------
    schema : must have a field "numeric" or "categorical".
    statistics : "minimum" and "maximum" per numeric column, missing values left out; without them 0 and 1.
    """
    table = Schema({k: schema[k] for k in ("numeric", "categorical") if schema is not None and k in schema})
    if not table:
        raise ValueError(f"{name} needs a table; this data has {', '.join(schema or {}) or 'no schema'}")
    columns = len(_names(table.get("numeric"), "numeric"))
    ranges = {}
    for key, default in (("minimum", 0.0), ("maximum", 1.0)):
        known = statistic(statistics, key)
        values = torch.as_tensor([default] * columns if known is None else known, dtype=torch.float64).flatten()
        if len(values) != columns:
            raise ValueError(f"there are {len(values)} values of the {key} for {columns} numeric columns")
        # A column without a single value has no range; it is all missing tokens.
        ranges[key] = torch.where(values.isfinite(), values, torch.full_like(values, default)).tolist()
    return {"name": name, "args": dict(args), "table": table.plain(), **ranges}


def _names(field: Field | None, kind: str) -> tuple[str, ...]:
    if field is None:
        return ()
    count = len(field.columns) or (field.shape[0] if field.shape else 0)
    return field.columns or tuple(f"{kind} {index}" for index in range(count))
