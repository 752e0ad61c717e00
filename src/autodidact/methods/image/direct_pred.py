"""DirectPred: BYOL or SimSiam with a linear predictor that is set from the statistics of its input, not trained."""

from __future__ import annotations

import inspect
from typing import Any, Literal, get_args

from torch import nn

from autodidact.catalog import Card, unknown
from autodidact.heads import SetPredictor, predictor, projector
from autodidact.methods.method import Progress
from autodidact.methods.other_view import OtherView
from autodidact.methods.two_views import augment_for
from autodidact.model import Encoder

CARD = Card(
    name="direct_pred",
    target="DirectPred",
    kind="method",
    number=48,
    title="DirectPred",
    paper="Tian, Chen, Ganguli: Understanding SSL Dynamics without Contrastive Pairs (2102.06810, 2021)",
    summary="BYOL or SimSiam with a linear predictor set from the eigenvectors of its input's correlation.",
    needs=(("image", "image"),),
    arguments=("head", "freq", "momentum", "eps", "rho"),
    claim="direct_pred",
    encoder="small:convnet",
)

Head = Literal["directpred", "directcopy", "linear", "mlp", "none"]
SETTINGS = ("exponent", "eps", "relative", "rho", "freq", "centred")
UNREAD = {"directcopy": ("exponent", "relative"), **dict.fromkeys(("linear", "mlp", "none"), SETTINGS)}
"""Head -> what of the settings of a predictor that is set means nothing to it."""


class DirectPred(OtherView):
    """DirectPred (arXiv 2102.06810, section 4), with the predictors that it is compared with.

    After every update the correlation F of the projections of both views is averaged in, and every `freq` updates the
    predictor is overwritten by a matrix with the eigenvectors of F and eigenvalues ``sqrt(s) + eps``: what the paper
    finds that training a linear predictor tends to. Between two settings it is trained like any other weight. The
    projector's batch norm has a scale and a shift; that of the authors' code has none.

    The reasons are in `autodidact.measures.PredictorDynamics`: without predictor, or without the constant target, the
    network decays to 0; with both, predictor and correlation come to share their eigenvectors, and directions above a
    threshold grow.

    Parameters
    ----------
    encoder : image encoder.
    head : "directpred"; "directcopy" (2110.04947), the correlation itself without an eigen-decomposition; "linear", a
        trained linear predictor; "mlp", BYOL's with a hidden layer and batch norm; "none", which collapses where
        no batch norm stands against it. What a head does not read may not be set: "directcopy" reads neither `exponent`
        nor `relative`, the last three nothing from `exponent` to `centred`.
    exponent : of the eigenvalues. Paper: 0.5; others are DirectSet (2110.04947).
    eps : added to the eigenvalues, relative to the largest. Published runs: 0.01.
    relative : whether eigenvalues are divided by the largest first, as in the authors' code; otherwise equation 19.
    rho : share of the old correlation that stays in every update, in [0, 1). Paper: 0.3.
    freq : updates from one setting of the predictor to the next. Paper: 1; 5 was better still on STL-10.
    centred : take the mean off the projections before their correlation. Paper: no.
    momentum : of the slow copy, constant. Paper: 0.996. 0 for none, as in SimSiam.
    hidden : width of the hidden layer of the projector, and of the predictor "mlp". Paper: 512.
    dimensions : width of the projections. Paper: 128.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Head = "directpred",
        exponent: float = 0.5,
        eps: float = 0.01,
        relative: bool = True,
        rho: float = 0.3,
        freq: int = 1,
        centred: bool = False,
        momentum: float = 0.996,
        hidden: int = 512,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        settings = dict(zip(SETTINGS, (exponent, eps, relative, rho, freq, centred), strict=True))
        usual = inspect.signature(DirectPred).parameters
        if ignored := [name for name in UNREAD.get(head, ()) if settings[name] != usual[name].default]:
            raise ValueError(f"head '{head}' does not read {', '.join(ignored)}; leave that out")
        made: nn.Module
        if head in ("directpred", "directcopy"):
            made = SetPredictor(
                dimensions,
                copied=head == "directcopy",
                exponent=exponent,
                eps=eps,
                relative=relative,
                rho=rho,
                every=freq,
                centred=centred,
            )
        elif head == "linear":
            made = nn.Linear(dimensions, dimensions, bias=False)
        elif head == "mlp":
            made = predictor(dimensions, hidden)
        elif head == "none":
            made = nn.Identity()
        else:
            raise unknown("head", str(head), get_args(Head))
        augment = augment_for(encoder, view, view_changes)
        super().__init__(
            encoder,
            projector(encoder.width, hidden, dimensions),
            made,
            (augment, augment),
            momentum=(momentum, momentum),
        )

    def after_update(self, progress: Progress) -> None:
        if isinstance(self.predictor, SetPredictor):
            self.predictor.follow()
        super().after_update(progress)
