"""Labels of class and transformation together (SLA: Lee, Hwang, Shin, arXiv 1910.05872, section 2)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from autodidact.objectives.embeddings import full_precision, full_precision_region
from autodidact.objectives.shards import mean_over_rows


def joint_labels(labels: Int[Tensor, " n"], transformations: int) -> Int[Tensor, " copies"]:
    """``label * M + j`` for the M copies of every sample, copy by copy; -1 where the label is unknown."""
    joint = labels[:, None] * transformations + torch.arange(transformations, device=labels.device)
    return joint.where(labels[:, None] >= 0, -1).flatten()


def label_cross_entropy(
    logits: Float[Tensor, "rows classes"], labels: Int[Tensor, " rows"], *, gather: bool = True
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the rows of all processes whose label is known.

    Parameters
    ----------
    logits : one row an input.
    labels : class of each, -1 where unknown; such rows do not count, and without any other the loss is 0.
    gather : count the rows of every process.

    Raises
    ------
    ValueError
        Labels other than -1 and the numbers of the classes (looked at on the CPU only).
    """
    check_labels(labels, logits.shape[1])
    with full_precision_region(logits.device):
        each = cross_entropy(full_precision(logits), labels, ignore_index=-1, reduction="none")
        return mean_over_rows(each, gather, counted=labels >= 0)


def joint_cross_entropy(
    logits: Float[Tensor, "copies joint"],
    labels: Int[Tensor, " n"],
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""The loss of SLA: classify every copy of a sample by its class and its transformation together.

    With N classes, M transformations :math:`t_j` and :math:`z_j = f(t_j(x))`, the loss of a sample is::

        L(x, y) = (1/M) sum_j -log softmax(z_j)_(y, j),        the softmax over all N M joint classes

    Parameters
    ----------
    logits : tensor of shape (n * M, N * M)
        Row ``b * M + j`` belongs to transformation j of sample b, column ``i * M + j`` to class i under it.
    labels : tensor of shape (n,)
        Classes, -1 where unknown; such samples do not count.
    gather : bool
        The mean is over the samples of all processes.

    Raises
    ------
    ValueError
        Rows that are no whole number of copies a sample, columns that are no multiple of that number, labels outside
        0 to N - 1.
    """
    if len(labels) == 0 or len(logits) % len(labels):
        raise ValueError(f"{len(logits)} rows of logits are no whole number of copies of {len(labels)} samples")
    m = len(logits) // len(labels)
    _check_shape(logits, m, joint=True)
    check_labels(labels, logits.shape[1] // m)
    return label_cross_entropy(logits, joint_labels(labels, m), gather=gather)


def aggregated_logits(
    logits: Float[Tensor, "copies outputs"], transformations: int, joint: bool = True
) -> Float[Tensor, "n classes"]:
    """Mean over a sample's copies of what each says of the classes.

    ``s_i = (1/M) sum_j z_j(i, j)`` for joint logits: of each copy only the entries of its own transformation count.
    Logits are averaged, not probabilities. Without `joint` the columns are the classes, and all of them count.

    Parameters
    ----------
    logits : tensor of shape (n * M, N * M), or (n * M, N)
        In the order of `joint_cross_entropy`.
    transformations : M.
    joint : whether the columns are joint classes.
    """
    m = transformations
    _check_shape(logits, m, joint)
    by_copy = logits.unflatten(0, (-1, m))
    if not joint:
        return by_copy.mean(dim=1)
    return by_copy.unflatten(2, (-1, m)).diagonal(dim1=1, dim2=3).mean(dim=2)


def _check_shape(logits: Tensor, m: int, joint: bool) -> None:
    rows, columns = logits.shape
    if rows % m:
        raise ValueError(f"{rows} rows of logits are no whole number of samples with {m} copies each")
    if joint and columns % m:
        raise ValueError(f"{columns} outputs are no joint classes of {m} transformations; a head of N x {m} is needed")


def check_labels(labels: Int[Tensor, " rows"], classes: int) -> None:
    """Refuse labels other than -1 (unknown) and 0 to classes - 1; on accelerators the look would make it wait."""
    if labels.device.type == "cpu" and len(labels) and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in labels.aminmax())
        if low < -1 or high >= classes:
            raise ValueError(f"labels must be 0 to {classes - 1}, or -1 where unknown; got {low if low < -1 else high}")
