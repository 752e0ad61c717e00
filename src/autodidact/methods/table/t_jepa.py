"""T-JEPA: from some columns of a row, predict what a slow copy of the encoder says about others; no augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.data.schema import Kind
from autodidact.encoders.kept import EncoderModel
from autodidact.encoders.rows import Rows
from autodidact.encoders.tabular import TabularTransformer
from autodidact.heads import JEPAPredictor
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.methods.ranges import low_high
from autodidact.model import Encoder, Model
from autodidact.objectives import latent_mse
from autodidact.schedules import linear_ramp
from autodidact.targets import EMATeacher
from autodidact.views import column_subsets, gather_tokens
from autodidact.views.parcel import sent

CARD = Card(
    name="t_jepa",
    target="TJEPA",
    kind="method",
    number=28,
    title="T-JEPA",
    paper="Thimonier, Costa, Popineau, Rimmel, Doan: Augmentation-Free SSL for Tabular Data (2410.05016, 2024)",
    summary="For tables: predicts the latent of some columns of a row from other columns, without any augmentation.",
    needs=(("numeric", "numeric"), ("categorical", "categorical")),
    arguments=("context_share", "target_share", "targets", "momentum"),
    claim="t_jepa",
    encoder="small:tabular",
)


class TJEPA(Method):
    """T-JEPA (arXiv 2410.05016, section 3).

    The context encoder sees a random subset of a row's columns, the others are dropped; the target encoder, its
    exponential moving average, sees all of them. A predictor that knows only which columns are asked for guesses the
    target encoder's output at `targets` further subsets. The loss is the mean squared error, without normalisation. The
    encoder's [REG] tokens are always seen and never predicted, and only give both encoders a free slot.

    The target encoder is kept; it embeds a row as all its column tokens side by side, as in the paper.

    Parameters
    ----------
    encoder : table transformer, one token a column.
    context_share : smallest and largest share of the columns in the context. Default: the authors' launch script.
    target_share : the same for each target set; a set never overlaps the context.
    targets : target sets for each row. Paper: 4.
    momentum : of the target encoder at the first update; it rises linearly to 1 at the end.
    hidden : width of the predictor's tokens. Published runs: 16.
    depth : layers of the predictor. Published runs: 16; 2 for small tables.
    heads : attention heads of the predictor.
    mlp : width of the MLP in the predictor's layers. Published runs: 256.
    released : mask as the authors' released code does, for comparison: its column numbers are off by one, so that
        [REG] is treated as a column and the last column is never drawn, and the target sets of a row are all the same.
    """

    needs: ClassVar[Mapping[str, Kind]] = {"numeric": "numeric", "categorical": "categorical"}
    one_need_suffices = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        context_share: tuple[float, float] = (0.136, 0.368),
        target_share: tuple[float, float] = (0.156, 0.622),
        targets: int = 4,
        momentum: float = 0.996,
        hidden: int = 16,
        depth: int = 2,
        heads: int = 4,
        mlp: int = 256,
        released: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, TabularTransformer):
            raise ValueError(f"t_jepa needs a table transformer such as small:tabular, got {encoder.name}")
        if released and encoder.reg_count != 1:
            raise ValueError(f"the released masking is that of one [REG] token, this encoder has {encoder.reg_count}")
        self.encoder, self.released, self.momentum = encoder, released, momentum
        self.sets = targets
        self.context_share = low_high("context_share", context_share)
        self.target_share = low_high("target_share", target_share)
        # Draws nothing that is used: shares that the table's number of columns cannot meet are refused here.
        self._subsets(1, torch.Generator())
        self.teacher = EMATeacher(encoder, momentum)
        places = encoder.reg_count + encoder.columns
        self.predictor = JEPAPredictor(encoder.token_width, places, hidden=hidden, depth=depth, heads=heads, mlp=mlp)

    def views(self, batch: Batch, progress: Progress) -> Views:
        rows = self.encoder.prepare(batch.fields)
        context, targets = self._subsets(len(rows), progress.generator)
        device = rows.device
        return Views({"rows": rows, "context": sent(context, device), "targets": sent(targets, device)}, batch.ids)

    def _subsets(self, n: int, generator: torch.Generator) -> tuple[Int[Tensor, "n c"], Int[Tensor, "n sets t"]]:
        return column_subsets(
            n,
            self.encoder.columns,
            generator,
            context_share=self.context_share,
            target_share=self.target_share,
            targets=self.sets,
            released=self.released,
        )

    def loss(self, views: Views, progress: Progress) -> Loss:
        rows, context, targets = views["rows"], views["context"], views["targets"]
        encoded = self.teacher(rows)
        every = torch.cat((encoded.prefix, encoded.tokens), dim=1)
        # Column j is the token at j behind the [REG] tokens; the released code leaves this shift out.
        shift = 0 if self.released else self.encoder.reg_count
        wanted = torch.stack([gather_tokens(every, index + shift) for index in targets.unbind(dim=1)], dim=1)
        seen = self._context_of_tokens(rows, context) if self.released else self.encoder(rows, keep=context).tokens
        predicted = self.predictor(seen, context + shift, targets + shift)
        embedding = encoded.tokens.mean(dim=1)
        spread = encoded.tokens.float().var(dim=0, unbiased=False).mean()
        return Loss(latent_mse(predicted, wanted), {"spread": spread}, {"embedding": embedding})

    def _context_of_tokens(self, rows: Rows, index: Int[Tensor, "n k"]) -> Float[Tensor, "n k d"]:
        """The context encoder on the tokens at `index`, [REG] counted among them."""
        encoder = self.encoder
        reg = (encoder.reg + encoder.positions[: encoder.reg_count]).expand(len(rows), -1, -1)
        x = gather_tokens(torch.cat((reg, encoder.tokenise(rows)), dim=1), index)
        for layer in encoder.layers:
            x = layer(x)
        return encoder.tail(x)

    def after_update(self, progress: Progress) -> None:
        self.teacher.update(self.encoder, linear_ramp(progress.step, progress.total, self.momentum, 1.0))

    def kept(self) -> Model:
        return EncoderModel({"encoder": self.teacher.copied()}, tap="flat")
