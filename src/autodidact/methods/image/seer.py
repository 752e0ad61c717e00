"""SEER: SwAV for one pass over images that nobody has chosen, with more prototypes and a larger projector."""

from __future__ import annotations

from typing import Any

from autodidact.catalog import Card
from autodidact.methods.swapped import Swapped
from autodidact.methods.two_views import whole_patches
from autodidact.model import Encoder

CARD = Card(
    name="seer",
    target="SEER",
    kind="method",
    number=41,
    title="SEER",
    paper="Goyal, Duval, Seessel, Caron, Misra, Sagun, Joulin, Bojanowski: Vision Models Are More Robust And Fair When "
    "Pretrained On Uncurated Images Without Supervision (2202.08360, 2022)",
    summary="SwAV at scale on uncurated images: many prototypes, of unequal sizes if wanted, a larger projector.",
    needs=(("image", "image"),),
    arguments=("prototypes", "marginal", "queue", "hidden"),
    claim="seer",
    encoder="small:convnet",
)


class SEER(Swapped):
    """SwAV's objective as SEER trains with it (arXiv 2202.08360, section 3 and appendix).

    There is no other objective than SwAV's. What differs: 16,000 prototypes, codes of ten iterations at epsilon 0.03, a
    projector of three layers, at the largest size without BatchNorm, four small crops, an optional power law over the
    prototypes, and the training: SGD with rates adapted layer by layer (``--optimizer lars``), a single pass
    (``--epochs 1``), and, where the network is large, activations that are computed again (``--recompute``). The
    paper's encoders are RegNetY (``--encoder timm:regnety_320``; ``timm:regnety_004`` is a small one); the largest has
    ten billion parameters, which ``--sharding full`` is for; none of that size was tried here.

    The paper audits encoders by group, by corruption and by copies:
    ``autodidact evaluate RUN --data D --protocol groups,retrieval,corruption,copies,fewshot --group WHERE``, for
    encoders of any method; ``--protocol associations --harmful NAME,NAME --group WHERE`` says how often the images of
    each group are taken for something harmful.

    Parameters
    ----------
    encoder : image encoder that takes images of two sizes.
    prototypes : number of clusters. Paper: 16000.
    temperature : of the predicted assignment. Paper: 0.1.
    epsilon : softness of the codes. Paper: 0.03, with batches of thousands; with small ones that lets all samples
        become alike.
    iterations : of Sinkhorn-Knopp. Paper: 10.
    marginal : exponent a >= 0 of the shares that prototypes get of a batch: prototype k gets k^-a of all of them, for
        data with few frequent and many rare kinds. Paper: 0; the authors' code has such a power law as an option.
    frozen : updates during which the prototypes stay as they are. SwAV's code: 313.
    local_count : small views beside the two large ones. Paper: 4; 0 for none.
    local_size : side of the small views in pixels; 0 for 96/160 of the image's, as in the paper.
    global_scale : share of the image's area in a large view. None: the paper's (0.14, 1), or that of the augmentation
        where images have up to 64 pixels.
    local_scale : share of the image's area in a small view. None: the paper's (0.05, 0.14), or (0.2, 0.5) where images
        have up to 64 pixels.
    queue : embeddings of earlier batches, a large view each, that codes are balanced with, so that batches may be
        smaller than the prototypes; 0 for none. Paper: none, with batches of 7936.
    queue_from : epoch from which the queue is used. A single pass has only epoch 0.
    hidden : width of the projector's hidden layers; 0 for the encoder's width. Paper: 8192.
    layers : of the projector. Paper: 3.
    norm : whether a BatchNorm follows each of its hidden layers, without which small networks learn slowly. Paper: not
        for the largest encoder.
    dimensions : width of the projections. Paper: 256.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: int = 512,
        temperature: float = 0.1,
        epsilon: float = 0.02,
        iterations: int = 10,
        marginal: float = 0.0,
        frozen: int = 313,
        local_count: int = 4,
        local_size: int = 0,
        global_scale: tuple[float, float] | None = None,
        local_scale: tuple[float, float] | None = None,
        queue: int = 2048,
        queue_from: int = 0,
        hidden: int = 0,
        layers: int = 3,
        norm: bool = True,
        dimensions: int = 256,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            encoder,
            prototypes=prototypes,
            temperature=temperature,
            epsilon=epsilon,
            iterations=iterations,
            marginal=marginal,
            frozen=frozen,
            local_count=local_count,
            local_size=local_size or whole_patches(encoder, min(encoder.spec["image_size"]) * 96 / 160),
            global_scale=global_scale,
            local_scale=local_scale,
            queue=queue,
            queue_from=queue_from,
            hidden=hidden,
            layers=layers,
            norm=norm,
            dimensions=dimensions,
            view=view,
            view_changes=view_changes,
        )
