"""A classifier that was trained on transformed copies of its inputs, and may look at them again when it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.encoders.build import build_from_spec
from autodidact.encoders.kept import PredictorModel, Tap, read_out
from autodidact.heads import LinearHead
from autodidact.model import Encoder
from autodidact.objectives import aggregated_logits
from autodidact.views.transformations import transformation_set

Inference = Literal["single", "aggregated", "distilled"]


class TransformedPredictor(PredictorModel):
    """An encoder with a head on classes and transformations together (SLA, arXiv 1910.05872, section 2).

    Parameters
    ----------
    encoder, tap, width, classes, head : see `PredictorModel`.
    transformations : name of their set, see `autodidact.views.transformations.transformation_set`.
    joint : whether output ``i * M + j`` of the head is class i under transformation j; else the outputs are the
        classes, whatever the transformation.
    inference : how it predicts, which may be changed at any time. "single": from the input as it is. "aggregated": from
        all M copies, whose logits are averaged, at M times the cost. "distilled": by a second head on the input as
        it is, which learned what the copies say together.
    distilled : whether there is that second head.
    """

    kind: ClassVar[str] = "transformed_predictor"

    def __init__(
        self,
        encoder: Encoder,
        *,
        classes: Sequence[str],
        transformations: str,
        inference: Inference = "aggregated",
        joint: bool = True,
        distilled: bool = False,
        tap: Tap = None,
        width: int | None = None,
        head: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, tap=tap, width=width, classes=classes, head=head)
        if not classes:
            raise ValueError("copies under transformations share a class, not a value: this needs classes")
        self.transformations, self.joint = transformation_set(transformations), joint
        if joint:
            self.head = LinearHead(self.width, len(self.classes) * len(self.transformations), **self.head_args)
        self.second = LinearHead(self.width, len(self.classes), **self.head_args) if distilled else None
        self.inference = inference

    @property
    def inference(self) -> Inference:
        return self._inference

    @inference.setter
    def inference(self, asked: Inference) -> None:
        if asked not in get_args(Inference):
            raise unknown("inference", str(asked), get_args(Inference))
        if asked == "distilled" and self.second is None:
            raise ValueError("there is no distilled head; use single or aggregated")
        self._inference = asked

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        kept = super().settings
        del kept["outputs"], kept["neck"]
        return {
            **kept,
            "transformations": self.transformations.name,
            "inference": self.inference,
            "joint": self.joint,
            "distilled": self.second is not None,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> TransformedPredictor:
        return cls(**{**settings, "encoder": build_from_spec(settings["encoder"])})

    def forward(self, inputs: Any) -> Float[Tensor, "n classes"]:
        """Logits of the classes by the inference that is set."""
        return self._encoded(inputs)[1]

    def respond(self, inputs: Any) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n classes"]]:
        embedding, logits = self._encoded(inputs)
        return embedding.float(), logits.float().softmax(dim=1)

    def answers(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        if self.inference == "aggregated":
            raise ValueError(
                "aggregated answers need the copies of an input, not its embedding; use respond or predict"
            )
        return self._of_untransformed(embedding).float().softmax(dim=1)

    def aggregate(self, logits: Float[Tensor, "copies outputs"]) -> Float[Tensor, "n classes"]:
        """What the copies of each sample say together, from the head's outputs for `transformations.copies`."""
        return aggregated_logits(logits, len(self.transformations), self.joint)

    def plain(self) -> PredictorModel:
        """The same predictions, of one pass, as an ordinary predictor; aggregated inference stays what it is."""
        if self.inference == "aggregated":
            return self
        made = PredictorModel(self.encoder, tap=self.tap, width=self.width, classes=self.classes, head=self.head_args)
        made.to(self.head.out.weight.device).train(self.training)
        weights = (self.second if self.second is not None and self.inference == "distilled" else self.head).state_dict()
        if self.inference == "single":
            weights |= {name: weights[name][:: self._stride] for name in ("out.weight", "out.bias")}
        made.head.load_state_dict(weights)
        return made

    @property
    def _stride(self) -> int:
        return len(self.transformations) if self.joint else 1

    def _encoded(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Embeddings of the inputs as they are, and logits of the classes."""
        if self.inference != "aggregated":
            embedding = read_out(self.encoder, inputs, self.tap)
            return embedding, self._of_untransformed(embedding)
        rows = read_out(self.encoder, self.transformations.copies(inputs), self.tap)
        return rows[:: len(self.transformations)], self.aggregate(self.head(rows))

    def _of_untransformed(self, embedding: Tensor) -> Tensor:
        if self.inference == "distilled":
            assert self.second is not None
            return self.second(embedding)
        return self.head(embedding)[:, :: self._stride]
