"""What methods share that predict from one view what a network, or its slow copy, says of the other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import TwoViews, shown_views
from autodidact.model import Encoder
from autodidact.objectives import cosine_prediction
from autodidact.schedules import cosine_ramp
from autodidact.targets import slow_copy
from autodidact.views import Augment


class OtherView(TwoViews):
    """From the projection of one view, predict the target's projection of the other, both ways (BYOL, equation 2).

    With f the encoder with its projector, f' the target and q the predictor, the loss is
    ``2 - 2 cos(q(f(x1)), f'(x2))`` and the same with the views exchanged, in [0, 8], unless a subclass has another
    `compared`. The target takes no gradient. It
    is a slow copy of f, or f itself where the momentum starts at 0 (SimSiam). As in the published code, each view
    passes the networks by itself, and batch norms of the target use batch statistics.

    Parameters
    ----------
    encoder : image encoder.
    projector : from the pooled embedding to what is predicted.
    predictor : from a projection to the prediction, of the same width.
    augments : how each of the two views is made.
    momentum : of the slow copy at the first and at the last update, with a cosine in between; (0, 0) for no copy.
    stop_gradient : whether the target is a constant; only a network that is its own target has the choice.
    """

    one_forward = False

    def __init__(
        self,
        encoder: Encoder,
        projector: nn.Module,
        predictor: nn.Module,
        augments: tuple[Augment, Augment],
        *,
        momentum: tuple[float, float] = (0.0, 0.0),
        stop_gradient: bool = True,
    ) -> None:
        super().__init__(encoder, projector, augments)
        self.predictor, self.momentum, self.stop_gradient = predictor, momentum, stop_gradient
        self.slow_encoder = slow_copy(encoder, momentum[0]) if momentum[0] else None
        self.slow_projector = slow_copy(projector, momentum[0]) if momentum[0] else None

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        said = self.predictor(z1), self.predictor(z2)
        first, second = (views[name] for name in shown_views(views))
        wanted = self._target(second, z2), self._target(first, z1)
        return self.compared(said, wanted), {}

    def compared(self, said: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of what is predicted from each view against the target's projection of the other."""
        first, second = (
            cosine_prediction(p, t, stop_gradient=self.stop_gradient) for p, t in zip(said, wanted, strict=True)
        )
        return first + second

    def _target(self, images: Tensor, own: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if self.slow_encoder is None or self.slow_projector is None:
            return own
        return self.slow_projector(self.slow_encoder(images).pooled)

    def after_update(self, progress: Progress) -> None:
        if self.slow_encoder is None or self.slow_projector is None:
            return
        momentum = cosine_ramp(progress.step, progress.total, *self.momentum)
        self.slow_encoder.update(self.encoder, momentum)
        self.slow_projector.update(self.projector, momentum)
