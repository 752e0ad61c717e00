"""Collapse, detected and said in plain words."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from autodidact.measures.spectrum import Spectrum, effective_rank


def per_dimension_std(embeddings: Shaped[Tensor, "n k"], *, normalize: bool = False) -> Float[Tensor, " k"]:
    """Standard deviation (biased) of each column, float64.

    With `normalize`, rows are divided by their length first: the mean over columns is then near 1 / sqrt(K) for a
    healthy encoder and 0 for a collapsed one (SimSiam, arXiv 2011.10566, section 4.1).
    """
    return Spectrum(normalize=normalize).update(embeddings).per_dimension_std()


def collapse_verdict(
    embeddings: Shaped[Tensor, "n k"] | Spectrum, *, least_variation: float = 1e-4, least_rank: float = 2.0
) -> str | None:
    """A warning in plain words when embeddings have collapsed, None when they have not.

    Parameters
    ----------
    embeddings : tensor of shape (N, K), or a `Spectrum`
        Of N >= 2 different samples.
    least_variation : float
        Below this share of the mean squared length varying across samples (T-JEPA's across-row variance, made
        independent of scale) the encoder counts as constant.
    least_rank : float
        Below this centred effective rank (RankMe) embeddings of more than 4 dimensions, of more than 4 samples, count
        as collapsed onto a line.

    Raises
    ------
    ValueError
        Fewer than 2 samples, NaN or infinite values.
    """
    spectrum = embeddings if isinstance(embeddings, Spectrum) else Spectrum().update(embeddings)
    if spectrum.count < 2:
        raise ValueError(f"collapse is judged over at least 2 samples, got {spectrum.count}")
    variation = spectrum.variation()
    if variation < least_variation:
        return (
            f"The embedding has collapsed: it is nearly the same for every sample (only {variation:.1e} of its size "
            f"varies, below {least_variation:g}). Try a lower learning rate, more warm-up, or a stronger term against "
            "collapse (more negatives, redundancy weight, teacher momentum)."
        )
    singular_values = spectrum.singular_values(center=True)
    rank = effective_rank(singular_values)
    if len(singular_values) > 4 and rank < least_rank:
        return (
            f"The embedding is collapsing onto a line: its effective rank is {rank:.1f} of {len(singular_values)} "
            "possible, though samples still differ. Try weaker augmentation, a lower learning rate, or a stronger term "
            "against collapse (more negatives, redundancy weight, teacher momentum)."
        )
    return None
