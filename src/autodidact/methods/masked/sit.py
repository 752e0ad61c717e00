"""SiT: a vision transformer repaints corrupted blocks, and finds the same image in what its slow copy sees clean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import Card, unknown
from autodidact.data.batch import Batch
from autodidact.encoders.kept import EncoderModel, Tap
from autodidact.heads import UncertaintyWeights, initialise, projector
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.repainting import Repainting
from autodidact.methods.two_views import augment_pair
from autodidact.model import Encoder, Model
from autodidact.objectives import cross_view_contrast, label_cross_entropy, masked_reconstruction
from autodidact.schedules import cosine_ramp
from autodidact.targets import slow_copy
from autodidact.views import BlockCorruption
from autodidact.views.corruption import Fill
from autodidact.views.parcel import sent
from autodidact.views.transformations import transformation_set

CARD = Card(
    name="sit",
    target="SiT",
    kind="method",
    number=55,
    title="SiT",
    paper="Atito, Awais, Kittler: SiT: Self-supervised vIsion Transformer (2104.03602, 2021)",
    summary="GMML and contrast in one vision transformer, for small sets of images: it repaints and recognises.",
    needs=(("image", "image"),),
    arguments=("tasks", "weighting", "lam", "temperature", "momentum"),
    claim="sit",
    encoder="small:vit",
)

TASKS = ("rec", "con", "rot")
VIEWS = 2


class SiT(Repainting):
    """Self-supervised vision transformer (arXiv 2104.03602), by tasks.

    Two views of each image are augmented, then corrupted by blocks as in `gmml`; the network sees them corrupted. With
    u_a its projections of the corrupted views and v_a those of its slow copy for the clean ones::

        con  2 t [ CE(u_1 v_2^T / t, identity) + CE(u_2 v_1^T / t, identity) ]     from the pooled output
        rec  mean |painted - clean| over the corrupted pixels of both views        from the last patch tokens
        rot  CE over four quarter turns, each view turned by its own                from the first register token

    and the loss is ``con + lam rec + rot``, or their sum weighted by learned uncertainties. The authors' code has
    ("rec", "con"); the first version of the paper had all three with learned weights, with a contrast of the two
    corrupted views by NT-Xent in place of the slow copy, which is not made here. There the rotation has a token of its
    own: ``small:vit?registers=1``.

    The contrast head is Linear, BatchNorm, ReLU, Linear, BatchNorm, GELU, Linear, BatchNorm without scale. Batch norms
    of the slow copy use batch statistics, and its running ones are copied; drop-path is the network's alone. The
    network itself is kept. It embeds by its pooled output and the mean of its last patch tokens side by side, as the
    authors fine-tune; without the contrast by that mean alone, without reconstruction by the pooled output alone.

    The authors raise the weight decay from 0.04 to 0.1 in training; here it is the constant one of the settings.

    A tiny image needs larger blocks than the paper's, and what the augmentation may do depends on what is shown: digits
    must not be mirrored.

    Parameters
    ----------
    encoder : vision transformer of images; of square ones for "rot".
    tasks : some of "rec", "con" and "rot". Authors' code: rec, con; paper, version 1: rec, rot, con.
    weighting : "fixed" or "uncertainty" (`autodidact.heads.UncertaintyWeights`).
    lam : weight of the reconstruction where weights are fixed. Authors: 1, and 5 on small data.
    temperature : of the contrast, divides the cosine similarities. Authors: 0.2.
    momentum : of the slow copy at the first update, in [0, 1]; it rises to 1 by a cosine. Authors: 0.996; less for
        short trainings.
    fill : what blocks become: "noise", "zeros" (the mean colour; authors), "self" (another place of the same image) or
        "alien" (the same place of another image).
    share : largest share of the area that is corrupted, in (0, 1]; the share is drawn from min(0.5, share) to here.
        Authors: 0.5, the paper up to 0.7.
    align : blocks begin and end at multiples of this many pixels. Authors: 1.
    max_block : longest side of a block as a share of the image's side, in (0, 1]. Authors: 0.3.
    alien_p : probability that a view is instead taken clean and gets blocks of another image. Authors: 0.5. It needs
        batches of at least two images.
    alien_share : `share` of those views. Authors: 0.3.
    hidden : width of the contrast head's inner layers. Authors: 4096.
    dimensions : width of its output. Authors: 256.
    view : "auto" uses the authors' two different augmentations on colour images; else the name of one for both views.
    view_changes : fields of `autodidact.views.Augment` to change in both views.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        tasks: Sequence[str] = ("rec", "con"),
        weighting: Literal["fixed", "uncertainty"] = "fixed",
        lam: float = 1.0,
        temperature: float = 0.2,
        momentum: float = 0.996,
        fill: Fill = "zeros",
        share: float = 0.5,
        align: int = 1,
        max_block: float = 0.3,
        alien_p: float = 0.5,
        alien_share: float = 0.3,
        hidden: int = 512,
        dimensions: int = 256,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "sit", BlockCorruption(fill, share, align, max_block, alien_p, alien_share))
        self.tasks = _checked(tasks)
        if temperature <= 0 or lam < 0:
            raise ValueError(f"temperature must be positive and lam not negative, got {temperature} and {lam}")
        if weighting not in ("fixed", "uncertainty"):
            raise unknown("weighting", str(weighting), ("fixed", "uncertainty"))
        if weighting == "uncertainty" and lam != 1:
            raise ValueError(f"learned weights leave nothing for lam to do; leave it at 1, got {lam}")
        self.lam, self.temperature, self.momentum = lam, temperature, momentum
        crop = {"crop_scale": (0.2, 1.0)} if view == "auto" and self.encoder.channels == 3 else {}
        self.augments = augment_pair(encoder, view, {**crop, **(view_changes or {})})
        if "rec" not in self.tasks:
            del self.head
        if "con" in self.tasks:
            self.projector = projector(
                encoder.width, hidden, dimensions, layers=3, norm_last=True, activations=(nn.ReLU, nn.GELU)
            )
            initialise(self.projector)
            self.slow_encoder, self.slow_projector = slow_copy(encoder, momentum), slow_copy(self.projector, momentum)
        if "rot" in self.tasks:
            self.turns = transformation_set("rotation")
            self.turns.check((self.encoder.channels, *self.encoder.image_size))
            if getattr(encoder, "prefix_count", 0) < 2:
                raise ValueError(
                    f"the rotation is read from a token of its own; {encoder.name} has none beside its class token: "
                    "use registers=1 of small:vit, or reg_tokens=1 of timm"
                )
            self.turn_head = nn.Linear(encoder.token_width, len(self.turns))
        self.weights = UncertaintyWeights(self.tasks) if weighting == "uncertainty" else None

    def views(self, batch: Batch, progress: Progress) -> Views:
        made, generator = [], progress.generator
        for augment in self.augments:
            images, turn = augment(batch["image"], generator, batch.get("box")), {}
            if "rot" in self.tasks:
                drawn = torch.randint(len(self.turns), (len(images),), generator=generator, device=generator.device)
                turn = {"turn": sent(drawn, images.device)}
                images = self.turns.apply(images, turn["turn"])
            made.append(self.corrupted(images, generator) | turn)
        # Both views pass the networks as one batch.
        return Views({name: torch.cat([one[name] for one in made]) for name in made[0]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        encoded = self.encoder(views["seen"])
        assert encoded.pooled is not None
        assert encoded.tokens is not None
        n = len(encoded.pooled) // VIEWS
        terms: dict[str, Tensor] = {}
        watch = {"embedding": encoded.pooled[:n] if "con" in self.tasks else encoded.tokens[:n].mean(dim=1)}
        if "rec" in self.tasks:
            terms["rec"] = masked_reconstruction(self.head(encoded.tokens), views["clean"], views["mask"])
        if "con" in self.tasks:
            if views.ids is not None and len(encoded.pooled) != VIEWS * len(views.ids):
                raise ValueError(
                    f"sit contrasts two views of each image, got {len(encoded.pooled)} for {len(views.ids)} images"
                )
            said = self.projector(encoded.pooled)
            clean = self.slow_encoder(self.encoder.as_image(views["clean"]))
            wanted = self.slow_projector(clean.pooled)
            terms["con"] = cross_view_contrast((said[:n], said[n:]), (wanted[:n], wanted[n:]), self.temperature)
            watch |= {"projection": said[:n], "projection_b": wanted[n:]}
        if "rot" in self.tasks:
            assert encoded.prefix is not None
            terms["rot"] = label_cross_entropy(self.turn_head(encoded.prefix[:, 1]), views["turn"])
        if self.weights is not None:
            total = self.weights(terms)
            terms |= {f"weight of {task}": weight for task, weight in self.weights.weights().items()}
        else:
            total = torch.stack([self.lam * term if task == "rec" else term for task, term in terms.items()]).sum()
        return Loss(total, terms, watch)

    def after_update(self, progress: Progress) -> None:
        if "con" in self.tasks:
            momentum = cosine_ramp(progress.step, progress.total, self.momentum, 1.0)
            self.slow_encoder.update(self.encoder, momentum)
            self.slow_projector.update(self.projector, momentum)

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        if "rec" in self.tasks:
            shown = self.painted(views, self.encoder(views["seen"]).tokens)
        else:
            shown = {"augmented": self.encoder.as_image(views["clean"]), "corrupted": views["seen"]}
        return {name: images[: len(images) // VIEWS] for name, images in shown.items()}

    def kept(self) -> Model:
        tap: Tap = "mean"
        if "con" in self.tasks:
            tap = "pooled+mean" if "rec" in self.tasks else None
        return EncoderModel({"encoder": self._slot("encoder")}, tap=tap)


def _checked(tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks, each once, in the order in which they are listed."""
    for task in tasks:
        if task not in TASKS:
            raise unknown("task of sit", str(task), TASKS)
    if not tasks or len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks are some of {', '.join(TASKS)}, each once; got {', '.join(tasks) or 'none'}")
    return tuple(task for task in TASKS if task in tasks)
