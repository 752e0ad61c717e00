"""The view without chance: the one that embeddings are made from."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from autodidact.views.geometry import Interpolation, whole_boxes
from autodidact.views.look import ChannelValues, Look
from autodidact.views.parameters import ViewParameters


def eval_view(
    images: Shaped[Tensor, "n c h w"],
    size: int | tuple[int, int],
    *,
    box: Shaped[Tensor, "n 4"] | None = None,
    mean: ChannelValues = 0.0,
    std: ChannelValues = 1.0,
    interpolation: Interpolation = "bilinear",
) -> Float[Tensor, "n c out_h out_w"]:
    """The whole image, or the part of its canvas in `box`, resized to `size` and normalised.

    Accepts the images that `Augment` accepts, smaller or larger than `size`; the aspect ratio becomes that of `size`.

    Parameters
    ----------
    images : tensor (n, c, h, w)
        uint8 (0 to 255) or floating point (0 to 1), any number of channels, on any device.
    size : int or (int, int)
        Side of the view in pixels, or (height, width).
    box : tensor (n, 4), optional
        The part of the canvas that is the image: top, left, height, width in pixels.
    mean, std : float or one a channel
        Subtracted and divided by at the end (image range 0 to 1).
    interpolation : {"bilinear", "bicubic"}
        Both antialiased.
    """
    n, _, height, width = images.shape
    look = Look(size=size, interpolation=interpolation, mean=mean, std=std)
    return look.render(images, ViewParameters.plain(whole_boxes(n, height, width, box)))
