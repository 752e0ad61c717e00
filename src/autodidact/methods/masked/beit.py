"""BEiT: of the masked patches, a vision transformer says the visual words; here k-means finds the words."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.methods.masked_patches import Masking, MaskTokens
from autodidact.methods.method import Loss, Progress, Sweep, Views
from autodidact.model import Encoder
from autodidact.objectives import label_cross_entropy
from autodidact.targets import Codebook, Reservoir
from autodidact.views import gather_tokens

CARD = Card(
    name="beit",
    target="BEiT",
    kind="method",
    title="BEiT with a k-means codebook",
    paper="Bao, Dong, Piao, Wei: BEiT, BERT Pre-Training of Image Transformers (2106.08254, 2021)",
    summary="Masks blocks of patches and predicts which of k visual words stands there; k-means on patches finds them.",
    needs=(("image", "image"),),
    arguments=("ratio", "masking", "codes"),
    encoder="small:vit",
)


class BEiT(MaskTokens):
    """BEiT (arXiv 2106.08254, section 2) with the nearest centroid of k-means in the place of DALL-E's tokeniser.

    Before the first update, pixels of patches drawn from the whole source are clustered. Blocks of patches are then
    replaced by a mask token, and a linear layer says the cluster of each; the loss is the mean cross-entropy. A cluster
    of pixels is far from the words of a tokeniser that was trained on millions of images; it needs no other data.

    Parameters
    ----------
    encoder : plain vision transformer of images.
    ratio : share of the patches that is masked, in (0, 1). Paper: 0.4.
    masking : "blocks" (paper), "random" patches, or "units" of 2 x 2 patches.
    codes : visual words, k. Paper: 8192 words of a discrete VAE; patches of pixels need fewer.
    fit : patches that k-means clusters, at least `codes`.
    view : light augmentation by name; "auto" is the paper's crop (at least a fifth of the area, 0.4 of images up to 64
        pixels) and mirror image. Digits and glyphs want "none", or no mirror.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.4,
        masking: Masking = "blocks",
        codes: int = 512,
        fit: int = 20_000,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "beit", ratio=ratio, masking=masking, view=view, view_changes=view_changes)
        if fit < codes:
            raise ValueError(f"{codes} codes cannot be found among {fit} patches; fit must be at least codes")
        self.fit = fit
        self.codebook = Codebook(codes, self.patch_values)
        self.head = nn.Linear(encoder.token_width, codes)

    def refresh(self, sweep: Sweep, progress: Progress) -> None:
        chosen = Reservoir(self.fit, progress.generator)

        def visit(batch: Batch) -> dict[str, Any]:
            chosen.show(self.pixels(self.encoder.prepare(batch.fields)).flatten(0, 1))
            return {}

        sweep(visit)
        assert chosen.rows is not None
        self.codebook.fit(chosen.rows, progress.generator)

    def loss(self, views: Views, progress: Progress) -> Loss:
        tokens = self.seen(views)
        said = self.head(gather_tokens(tokens, views["masked"])).float()
        wanted = self.codebook(gather_tokens(self.pixels(views["images"]), views["masked"]))
        total = label_cross_entropy(said.flatten(0, 1), wanted.flatten())
        right = (said.detach().argmax(dim=2) == wanted).float().mean()
        return Loss(total, {"right": right}, {"embedding": tokens.mean(dim=1)})

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        said = self.head(gather_tokens(self.seen(views), views["masked"]))
        return self.painted(views["images"], self.codebook.decode(said.argmax(dim=2)), views["masked"])
