"""SwAV: what cluster one view of an image belongs to is predicted from its other views, large and small."""

from __future__ import annotations

from autodidact.catalog import Card
from autodidact.methods.swapped import Swapped

CARD = Card(
    name="swav",
    target="SwAV",
    kind="method",
    title="SwAV",
    paper="Caron, Misra, Mairal, Goyal, Bojanowski, Joulin: Unsupervised Learning of Visual Features by Contrasting "
    "Cluster Assignments (2006.09882, 2020)",
    summary="Clusters online: the balanced cluster of one view is predicted from others, small ones too; no negatives.",
    needs=(("image", "image"),),
    arguments=("prototypes", "epsilon", "local_count", "queue"),
    encoder="small:convnet",
)


class SwAV(Swapped):
    """Swapped assignments between views (arXiv 2006.09882, section 3).

    Codes are the assignments by Sinkhorn-Knopp of the large views to prototypes, each view on its own and over the
    batch of all processes; every other view predicts them. Prototypes are brought back to unit length after every
    update.

    Where views have slots (`bss`), the codes of each slot are balanced on their own, and the queue, whose embeddings
    come from slots that are gone, is not used.
    """
