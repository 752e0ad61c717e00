"""Patch position: where do patches belong whose position a vision transformer is not told?"""

from __future__ import annotations

from typing import Any

from torch import nn

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.encoders.kept import EncoderModel
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.methods.two_views import gentle_augment_for
from autodidact.model import Encoder, Model
from autodidact.objectives import label_cross_entropy
from autodidact.views import gather_tokens, masked_indices, random_mask
from autodidact.views.parcel import sent

CARD = Card(
    name="patch_position",
    target="PatchPosition",
    kind="method",
    title="Patch position prediction (MP3)",
    paper="Zhai, Jaitly, Ramapuram et al.: Position Prediction as an Effective Pretraining Strategy (2207.07611, 2022)",
    summary="A vision transformer sees patches without their positions and says where each belongs.",
    needs=(("image", "image"),),
    arguments=("share", "view"),
    encoder="small:vit",
)


class PatchPosition(Method):
    """Position prediction (MP3, arXiv 2207.07611, section 3.1; with a part of the positions, DropPos, 2309.03576).

    Positions are dropped for a share of the patches; from the last token of each of these a linear head says which
    position it had, by cross-entropy over all positions. MP3 also keeps a part of the patches from being attended to,
    DropPos leaves most patches out of the encoder and smooths the answers by distance; neither is made here.

    What is kept embeds by the mean of the last patch tokens, since nothing trains the class token. Under ``share=1``
    the positions that it adds afterwards were never trained.

    Parameters
    ----------
    encoder : plain vision transformer with positions of its own, such as small:vit.
    share : share of the patches whose positions are dropped, in (0, 1], the same number in every image. MP3: all,
        DropPos: 0.75.
    view : augmentation by name; "auto" is "weak" (crop and flip) for colour images, and for others "tiny" up to 16
        pixels a side, "grey" above.
    view_changes : fields of `autodidact.views.Augment` to change.
    """

    def __init__(
        self, encoder: Encoder, *, share: float = 0.75, view: str = "auto", view_changes: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share is a share of the patches in (0, 1], got {share}")
        if encoder.patch_projection is None or encoder.grid is None:
            raise ValueError(f"patch_position needs a plain vision transformer such as small:vit, got {encoder.name}")
        self.encoder, self.augment = encoder, gentle_augment_for(encoder, view, view_changes)
        self.tokens = encoder.grid[0] * encoder.grid[1]
        self.count = max(1, round(share * self.tokens))
        self.head = nn.Linear(encoder.token_width, self.tokens)

    def views(self, batch: Batch, progress: Progress) -> Views:
        images = self.augment(batch["image"], progress.generator, batch.get("box"))
        unplaced = random_mask(len(images), self.tokens, self.count, progress.generator)
        # Turned into indices at home, so that no device is waited for.
        positions = masked_indices(unplaced)
        return Views(
            {"images": images, "unplaced": sent(unplaced, images.device), "positions": sent(positions, images.device)},
            batch.ids,
        )

    def loss(self, views: Views, progress: Progress) -> Loss:
        tokens = self.encoder(views["images"], unplaced=views["unplaced"]).tokens
        logits = self.head(gather_tokens(tokens, views["positions"]).flatten(0, 1))
        positions = views["positions"].flatten()
        right = (logits.argmax(1) == positions).float().mean()
        return Loss(label_cross_entropy(logits, positions), {"right": right}, {"embedding": tokens.mean(dim=1)})

    def kept(self) -> Model:
        return EncoderModel({"encoder": self._slot("encoder")}, tap="mean")
