"""Two gloo processes that share a batch: losses, gradients, spectra and queues equal those of one process.

One pair of processes is started for all tests; each test reads its figures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor

from autodidact.heads import SetPredictor
from autodidact.measures import Spectrum
from autodidact.objectives import (
    barlow_twins,
    cosine_prediction,
    coupling,
    cross_view_contrast,
    dcl,
    dclw,
    dclw_weights,
    dino_loss,
    distillation,
    info_nce,
    joint_cross_entropy,
    latent_mse,
    latent_smooth_l1,
    leave_one_out,
    masked_distillation,
    masked_reconstruction,
    mixing_gap,
    momentum_contrast,
    nt_xent,
    pair_triplets,
    power_law,
    same_slot,
    sinkhorn,
    swapped_prediction,
    vicreg,
)
from autodidact.objectives.correlation import cross_correlation, standardised
from autodidact.objectives.shards import from_first, gathered, mean_over_rows, process, shard_sizes
from autodidact.targets import Queue


def under_a_rule(z1: Tensor, z2: Tensor) -> Tensor:
    return info_nce(z1, z2, allowed=lambda a, b: (2 * a[:, None] + b) % 3 != 0)


def in_groups(z1: Tensor, z2: Tensor) -> Tensor:
    return info_nce(z1, z2, allowed=same_slot(*[(z1.detach()[:, 0] > 0).long()] * 2))


def with_queue(z1: Tensor, z2: Tensor) -> Tensor:
    queue = torch.randn(5, z1.shape[1], dtype=z1.dtype, generator=torch.Generator().manual_seed(9))
    return info_nce(z1, z2, 0.02, negatives=queue)


def unmixed(z1: Tensor, z2: Tensor, **options: Any) -> Tensor:
    """Each row is its own partner, so that the rows of a process know no others."""
    return mixing_gap((z1 * z2)[:, :3], z1[:, :3], z2[:, :3], torch.arange(len(z1)), 0.3, **options)


def weighed(z1: Tensor, z2: Tensor) -> Tensor:
    found = vicreg(z1, z2)
    return 25 * found.invariance + 25 * found.variance + found.covariance


def of_neighbours(z1: Tensor, z2: Tensor) -> Tensor:
    """Some rows without a label, so that processes count different numbers of queries."""
    bank = torch.randn(20, z1.shape[1], dtype=z1.dtype, generator=torch.Generator().manual_seed(9))
    labels = (z1[:, 0] > 0).long().where(z1[:, 1] < 2, -1)
    return leave_one_out(z1, labels, bank, torch.arange(20) % 2, k=4).total


def inside_slots(z1: Tensor, z2: Tensor) -> Tensor:
    """Two slots by view, and two more by the first coordinate's sign."""
    sign = (z1.detach()[:, 0] > 0).long()
    return info_nce(z1, z2, allowed=same_slot(sign, sign + 2))


def among_keys(z1: Tensor, z2: Tensor) -> Tensor:
    """Queries of this process among the keys of all, without their own."""
    sizes = shard_sizes(len(z1), z1.device)
    keys = torch.cat(gathered(z2.detach(), sizes))
    own = sum(sizes[: process()]) + torch.arange(len(z1))
    return momentum_contrast(z1, z2, keys, allowed=own[:, None] != torch.arange(len(keys)))


def swapped(z1: Tensor, z2: Tensor) -> Tensor:
    scores = [torch.nn.functional.normalize(z, dim=1) for z in (z1, z2)]
    return swapped_prediction(scores, [sinkhorn(s.detach()) for s in scores])


def self_distilled(z1: Tensor, z2: Tensor) -> Tensor:
    """Centred, balanced, and patch by patch with masks of different sizes."""
    centre = torch.linspace(-1, 1, z1.shape[1], dtype=z1.dtype)
    masked = torch.stack([z2[:, 0] > 0, z2[:, 1] > 1], dim=1)
    patches = masked_distillation(torch.stack([z1, z2], dim=1), torch.stack([z2, z1], dim=1).softmax(2), masked)
    return dino_loss([z1, z2], [z2, z1], centre) + dino_loss([z1, z2], [z2, z1], None) + patches


def repainted(z1: Tensor, z2: Tensor) -> Tensor:
    """Over masks that cover more of some rows than of others, and over everything."""
    return masked_reconstruction(z1, z2, z2 > 0.5) + masked_reconstruction(z1, z2, z2, norm="l2", region="all")


def of_pairs(z1: Tensor, z2: Tensor) -> Tensor:
    """Pairs of three clusters and of a track each; all negatives, the hardest, and those beyond the positive."""
    cluster = torch.bucketize(z1.detach()[:, 0].contiguous(), torch.tensor([-0.5, 0.5], dtype=z1.dtype))
    marks = torch.stack([cluster, (1000 * z1.detach()[:, 1]).long()], dim=1)
    ways: list[dict[str, Any]] = [{"hardest": None}, {"hardest": 2}, {"hardest": None, "semi_hard": True}]
    return torch.stack([pair_triplets(z1, z2, marks, marks, **way).total for way in ways]).sum()


def of_joint_labels(z1: Tensor, z2: Tensor) -> Tensor:
    """Two copies of each sample, and labels of which those that are unknown are spread unevenly."""
    labels = (2 * (z1[:, 0] > 0).long() + (z1[:, 1] > 0).long()).where(z1[:, 2] > -1, -1)
    logits = torch.stack([z1, z2], dim=1).flatten(0, 1)
    known = labels >= 0
    return (
        joint_cross_entropy(logits, labels)
        + mean_over_rows(distillation(z1, z2, 2.0), counted=known)
        + mean_over_rows(distillation(z2, z1))
    )


def by_matrix(z1: Tensor, z2: Tensor) -> Tensor:
    """Barlow Twins by its D x D matrix, however many dimensions there are."""
    c = cross_correlation(standardised(z1), standardised(z2))
    on = c.diagonal()
    return (1 - on).square().sum() + 0.005 * (c - torch.diag(on)).square().sum()


OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": nt_xent,
    "dcl": dcl,
    "dcl at a cold temperature": lambda a, b: dcl(a, b, 0.001),
    "dclw": lambda a, b: dclw(a, b, 0.1, 0.5, True),
    "dclw with attached weights": lambda a, b: dclw(a, b, 0.1, 0.5, False),
    "nt_xent under a rule of pairs": under_a_rule,
    "nt_xent inside groups": in_groups,
    "nt_xent with a queue": with_queue,
    "leave_one_out": of_neighbours,
    "nt_xent inside slots": inside_slots,
    "momentum_contrast": among_keys,
    "pair_triplets": of_pairs,
    "cross_view_contrast": lambda a, b: cross_view_contrast((a, b), (b.detach() + 1, a.detach() - 1)),
    "swapped_prediction": swapped,
    "self-distillation": self_distilled,
    "masked_reconstruction": repainted,
    "latent_mse": latent_mse,
    "latent_smooth_l1": latent_smooth_l1,
    "joint labels and distillation": of_joint_labels,
    "barlow_twins": lambda a, b: barlow_twins(a[:, :3], b[:, :3]),
    "barlow_twins, more dimensions than samples": barlow_twins,
    "barlow_twins, by its matrix": by_matrix,
    "barlow_twins, unbiased": lambda a, b: barlow_twins(a[:, :3], b[:, :3], unbiased=True),
    "mixing_gap": unmixed,
    "mixing_gap, standardised again": lambda a, b: unmixed(a, b, restandardise=True),
    "mixing_gap, stopped": lambda a, b: unmixed(a, b, stop_target=True, unbiased=True),
    "vicreg": weighed,
    "cosine_prediction": cosine_prediction,
    "cosine_prediction, unstopped": lambda a, b: cosine_prediction(a, b, stop_gradient=False),
}
SPLITS = {"equal": (3, 3), "unequal": (5, 2)}


def batch(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    return first, first + 0.5 * torch.randn(rows, 4, dtype=torch.float64, generator=generator)


def weights() -> Tensor:
    return torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def loss_and_gradient(objective: Callable[[Tensor, Tensor], Tensor], x1: Tensor, x2: Tensor) -> tuple[float, Tensor]:
    """Through one weight matrix, as an encoder would stand between the data and the loss."""
    w = weights()
    loss = objective(x1 @ w, x2 @ w)
    loss.backward()
    return float(loss.detach()), w.grad


def followed(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation and weights of a predictor that has read both views in two updates."""
    made = SetPredictor(4, centred=True).double()
    for shift in range(2):
        made(x1 + shift)
        made(x2 - shift)
        made.follow()
    return made.correlation, made.weight


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for split, sizes in SPLITS.items():
        mine = slice(0, sizes[0]) if rank == 0 else slice(sizes[0], sum(sizes))
        x1, x2 = (x[mine] for x in batch(sum(sizes)))
        for name, objective in OBJECTIVES.items():
            loss, gradient = loss_and_gradient(objective, x1, x2)
            dist.all_reduce(gradient)
            found[f"{name}/{split}"] = (loss, gradient / 2)
        with patch.object(dist_nn, "all_gather", side_effect=AssertionError("an embedding was gathered")):
            widest = 2 * sum(sizes)
            found[f"not gathered/{split}"] = loss_and_gradient(
                lambda a, b, most=widest: barlow_twins(a[:, :most], b[:, :most]), x1, x2
            )[0]
            with pytest.raises(AssertionError, match="an embedding was gathered"):
                barlow_twins(x1.repeat(1, widest), x2.repeat(1, widest))
        found[f"weights/{split}"] = dclw_weights(x1, x2)
        found[f"coupling/{split}"] = coupling(x1, x2)
        found[f"alone/{split}"] = float(nt_xent(x1, x2, gather=False))
        found[f"codes/{split}"] = sinkhorn(x1, 0.5)
        found[f"skewed codes/{split}"] = sinkhorn(x1, 0.5, marginal=power_law(4, 1.0))
        found[f"shared/{split}"] = from_first(x1[:2] + rank)
        spectrum = Spectrum().update(x1).all_reduce()
        found[f"spectrum/{split}"] = (spectrum.count, spectrum.mean, spectrum.scatter)
        found[f"predictor/{split}"] = followed(x1, x2)
        for kind in ("queue", "bank"):
            queue = Queue(8, 4, distinct=kind == "bank")
            for shift in range(2):
                ids = torch.arange(mine.start, mine.stop)
                queue.push(x1 + shift, ids + 3 * shift, ids % 2)
            found[f"{kind}/{split}"] = (queue.embeddings.clone(), queue.ids.clone(), queue.labels.clone())
    rows = batch(5)[0]
    spectrum = (Spectrum() if rank else Spectrum().update(rows)).all_reduce()
    found["spectrum/none on the second"] = (spectrum.count, spectrum.mean, spectrum.scatter)
    found["spectrum/none at all"] = Spectrum().all_reduce().count
    try:
        Spectrum().update(rows[:, : 3 + rank]).all_reduce()
    except ValueError as error:
        found["spectrum/of two dimensions"] = str(error)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_averaged_gradient_are_those_of_the_whole_batch(
    ranks: list[dict[str, Any]], name: str, split: str
) -> None:
    loss, gradient = loss_and_gradient(OBJECTIVES[name], *batch(sum(SPLITS[split])))
    for found in ranks:
        assert found[f"{name}/{split}"][0] == pytest.approx(loss, rel=1e-10)
        torch.testing.assert_close(found[f"{name}/{split}"][1], gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("split", SPLITS)
def test_barlow_twins_gathers_no_embedding_unless_there_are_more_dimensions_than_twice_the_samples(
    ranks: list[dict[str, Any]], split: str
) -> None:
    rows = sum(SPLITS[split])
    narrow, _ = loss_and_gradient(lambda a, b: by_matrix(a[:, : 2 * rows], b[:, : 2 * rows]), *batch(rows))
    wide, gradient = loss_and_gradient(by_matrix, *batch(rows))
    assert 2 * rows < 16
    for found in ranks:
        assert found[f"not gathered/{split}"] == pytest.approx(narrow, rel=1e-10)
        loss, gathered_gradient = found[f"barlow_twins, more dimensions than samples/{split}"]
        assert loss == pytest.approx(wide, rel=1e-10)
        torch.testing.assert_close(gathered_gradient, gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("split", SPLITS)
def test_each_process_gets_the_weights_and_couplings_of_its_own_pairs(ranks: list[dict[str, Any]], split: str) -> None:
    x1, x2 = batch(sum(SPLITS[split]))
    torch.testing.assert_close(torch.cat([found[f"weights/{split}"] for found in ranks]), dclw_weights(x1, x2))
    by_view = [found[f"coupling/{split}"].chunk(2) for found in ranks]
    together = torch.cat([views[0] for views in by_view] + [views[1] for views in by_view])
    torch.testing.assert_close(together, coupling(x1, x2))


@pytest.mark.parametrize("split", SPLITS)
def test_each_process_gets_the_codes_of_its_own_rows(ranks: list[dict[str, Any]], split: str) -> None:
    whole = sinkhorn(batch(sum(SPLITS[split]))[0], 0.5)
    torch.testing.assert_close(torch.cat([found[f"codes/{split}"] for found in ranks]), whole)
    skewed = sinkhorn(batch(sum(SPLITS[split]))[0], 0.5, marginal=power_law(4, 1.0))
    torch.testing.assert_close(torch.cat([found[f"skewed codes/{split}"] for found in ranks]), skewed)


@pytest.mark.parametrize("split", SPLITS)
def test_what_the_first_process_gives_reaches_all(ranks: list[dict[str, Any]], split: str) -> None:
    for found in ranks:
        assert torch.equal(found[f"shared/{split}"], batch(sum(SPLITS[split]))[0][:2])


@pytest.mark.parametrize("split", SPLITS)
def test_without_gathering_a_process_contrasts_its_own_shard(ranks: list[dict[str, Any]], split: str) -> None:
    first = SPLITS[split][0]
    x1, x2 = batch(sum(SPLITS[split]))
    assert ranks[0][f"alone/{split}"] == pytest.approx(float(nt_xent(x1[:first], x2[:first])), rel=1e-12)
    assert ranks[1][f"alone/{split}"] == pytest.approx(float(nt_xent(x1[first:], x2[first:])), rel=1e-12)


@pytest.mark.parametrize("split", SPLITS)
def test_a_spectrum_reduced_over_processes_is_that_of_all_rows(ranks: list[dict[str, Any]], split: str) -> None:
    whole = Spectrum().update(batch(sum(SPLITS[split]))[0])
    for found in ranks:
        count, mean, scatter = found[f"spectrum/{split}"]
        assert count == whole.count
        torch.testing.assert_close(mean, whole.mean)
        torch.testing.assert_close(scatter, whole.scatter)


def test_a_process_without_rows_gets_the_spectrum_of_the_others(ranks: list[dict[str, Any]]) -> None:
    whole = Spectrum().update(batch(5)[0])
    for found in ranks:
        count, mean, scatter = found["spectrum/none on the second"]
        assert count == 5
        torch.testing.assert_close(mean, whole.mean)
        torch.testing.assert_close(scatter, whole.scatter)
        assert found["spectrum/none at all"] == 0


def test_spectra_of_different_dimensions_are_refused_on_every_process(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert found["spectrum/of two dimensions"] == "spectra of one dimension are summed, the processes have 3, 4"


@pytest.mark.parametrize("split", SPLITS)
def test_a_predictor_is_set_from_the_rows_of_all_processes(ranks: list[dict[str, Any]], split: str) -> None:
    whole = followed(*batch(sum(SPLITS[split])))
    for found in ranks:
        for own, wanted in zip(found[f"predictor/{split}"], whole, strict=True):
            torch.testing.assert_close(own, wanted, rtol=1e-10, atol=1e-12)
    assert torch.equal(ranks[0][f"predictor/{split}"][1], ranks[1][f"predictor/{split}"][1])


@pytest.mark.parametrize("kind", ["queue", "bank"])
@pytest.mark.parametrize("split", SPLITS)
def test_every_process_holds_the_same_queue(ranks: list[dict[str, Any]], split: str, kind: str) -> None:
    x1 = batch(sum(SPLITS[split]))[0]
    queue = Queue(8, 4, distinct=kind == "bank")
    for shift in range(2):
        queue.push(x1 + shift, torch.arange(len(x1)) + 3 * shift, torch.arange(len(x1)) % 2)
    for found in ranks:
        embeddings, ids, labels = found[f"{kind}/{split}"]
        torch.testing.assert_close(embeddings, queue.embeddings)
        assert torch.equal(ids, queue.ids)
        assert torch.equal(labels, queue.labels)


@pytest.mark.parametrize(("backends", "where"), [("cpu:gloo,cuda:nccl", "cpu"), ("cuda:nccl", "meta")])
def test_hosts_tell_each_other_their_sizes_where_they_can(
    backends: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over: list[str] = []

    def all_gather(sizes: list[Tensor], own: Tensor) -> None:
        over.extend({own.device.type, *(size.device.type for size in sizes)})
        for size, rows in zip(sizes, (3, 5), strict=True):
            size.fill_(rows)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_backend_config", lambda: backends)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    if where == "cpu":
        assert shard_sizes(3, torch.device("meta")) == [3, 5]
    else:
        # To ask for a value of a tensor without content is an error: here a device would be waited for.
        with pytest.raises(NotImplementedError, match="meta"):
            shard_sizes(3, torch.device("meta"))
    assert over == [where]
