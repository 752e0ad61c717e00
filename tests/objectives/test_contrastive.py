"""NT-Xent, DCL and DCLW against double loops in float64, in their limits, and in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodidact.objectives import coupling, dcl, dclw, dclw_weights, info_nce, nt_xent


def pair(n: int, d: int = 8, *, seed: int = 0, dtype: torch.dtype = torch.float64, noise: float = 0.7) -> list[Tensor]:
    """Raw projections of any length, the second view near the first."""
    generator = torch.Generator().manual_seed(seed)
    first = 3 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    second = first + 3 * noise * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return [z.to(dtype).requires_grad_() for z in (first, second)]


def naive_per_anchor(
    z1: Tensor,
    z2: Tensor,
    t: float,
    *,
    decoupled: bool,
    allowed: Callable[[int, int], bool] = lambda a, b: True,
    queue: Tensor | None = None,
    weights: list[float] | None = None,
) -> list[float]:
    """The definition, one exponential at a time, in plain floats."""
    z = torch.cat([z1, z2]).detach().double()
    unit = [row / math.sqrt(float((row * row).sum())) for row in z]
    extra = [] if queue is None else [row / math.sqrt(float((row * row).sum())) for row in queue.double()]
    n, losses = len(z1), []
    for a in range(2 * n):
        positive = a + n if a < n else a - n
        s = float((unit[a] * unit[positive]).sum()) / t
        logits = [
            float((unit[a] * unit[b]).sum()) / t for b in range(2 * n) if b not in (a, positive) and allowed(a, b)
        ]
        logits += [float((unit[a] * row).sum()) / t for c, row in enumerate(extra) if allowed(a, 2 * n + c)]
        logits += [] if decoupled else [s]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(logit - top) for logit in logits))
        losses.append(log_sum - (1.0 if weights is None else weights[a % n]) * s)
    return losses


def dense_nt_xent(z1: Tensor, z2: Tensor, t: float, *, decoupled: bool) -> Tensor:
    """The whole 2N x 2N matrix, by autograd."""
    z = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    n = len(z1)
    logits = z @ z.T / t
    positive = (torch.arange(2 * n) + n) % (2 * n)
    s = logits[torch.arange(2 * n), positive]
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    if decoupled:
        logits = logits.masked_fill(torch.nn.functional.one_hot(positive, 2 * n).bool(), -torch.inf)
    return (logits.logsumexp(1) - s).mean()


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).abs().max() / b.detach().double().abs().max())


@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("t", [0.01, 0.1, 1.0])
def test_nt_xent_is_its_definition(n: int, t: float) -> None:
    z1, z2 = pair(n)
    expected = naive_per_anchor(z1, z2, t, decoupled=False)
    assert float(nt_xent(z1, z2, t).detach()) == pytest.approx(sum(expected) / len(expected), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("t", [0.01, 0.1, 1.0])
def test_dcl_is_its_definition(n: int, t: float) -> None:
    z1, z2 = pair(n)
    expected = naive_per_anchor(z1, z2, t, decoupled=True)
    assert float(dcl(z1, z2, t).detach()) == pytest.approx(sum(expected) / len(expected), rel=1e-12, abs=1e-12)


def test_dclw_is_its_definition() -> None:
    z1, z2 = pair(7)
    cosines = torch.nn.functional.cosine_similarity(z1, z2).tolist()
    mean = sum(math.exp(c / 0.5) for c in cosines) / 7
    weights = [2 - math.exp(c / 0.5) / mean for c in cosines]
    expected = naive_per_anchor(z1, z2, 0.1, decoupled=True, weights=weights)
    assert float(dclw(z1, z2, 0.1, 0.5).detach()) == pytest.approx(sum(expected) / 14, rel=1e-12)


@pytest.mark.parametrize("t", [0.02, 0.001])
@pytest.mark.parametrize("objective", [nt_xent, dcl, dclw])
def test_float32_is_finite_and_right_at_cold_temperatures(objective: Callable[..., Tensor], t: float) -> None:
    z1, z2 = pair(12, dtype=torch.float32)
    expected = objective(z1.double(), z2.double(), t)
    assert float(objective(z1, z2, t).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("t", [0.001, 0.01, 0.1, 1.0])
def test_nt_xent_is_softplus_of_dcl_for_each_anchor(t: float) -> None:
    z1, z2 = pair(10)
    coupled = info_nce(z1, z2, t, reduction="none")
    decoupled = info_nce(z1, z2, t, positive_in_denominator=False, reduction="none")
    # softplus spelt out: torch's cuts over to the identity at 20.
    softplus = torch.logaddexp(decoupled, torch.zeros_like(decoupled))
    torch.testing.assert_close(coupled, softplus, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_nt_xent_is_that_of_dcl_times_the_coupling() -> None:
    z1, z2 = pair(6)
    q = coupling(z1, z2, 0.5)
    coupled = info_nce(z1, z2, 0.5, reduction="none")
    decoupled = info_nce(z1, z2, 0.5, positive_in_denominator=False, reduction="none")
    for anchor in range(12):
        of_coupled = torch.autograd.grad(coupled[anchor], (z1, z2), retain_graph=True)
        of_decoupled = torch.autograd.grad(decoupled[anchor], (z1, z2), retain_graph=True)
        for a, b in zip(of_coupled, of_decoupled, strict=True):
            torch.testing.assert_close(a, q[anchor] * b, rtol=1e-9, atol=1e-12)


def test_coupling_is_the_negatives_share_of_the_denominator() -> None:
    z1, z2 = pair(5)
    u1, u2 = (torch.nn.functional.normalize(z.detach(), dim=1) for z in (z1, z2))
    for anchor in range(5):
        s = math.exp(float(u1[anchor] @ u2[anchor]) / 0.3)
        others = [float(u1[anchor] @ u[j]) / 0.3 for u in (u1, u2) for j in range(5) if j != anchor]
        negatives = math.fsum(map(math.exp, others))
        assert float(coupling(z1, z2, 0.3)[anchor]) == pytest.approx(negatives / (s + negatives), rel=1e-12)


@pytest.mark.parametrize("n", [2, 50])
def test_dcl_of_equal_embeddings_is_the_log_of_the_number_of_negatives(n: int) -> None:
    z = torch.ones(n, 4)
    assert float(dcl(z, z)) == pytest.approx(math.log(2 * n - 2), rel=1e-6)


def test_two_pairs_are_enough_and_one_is_an_error() -> None:
    assert math.isfinite(float(nt_xent(torch.eye(2), torch.eye(2))))
    for objective in (nt_xent, dcl, dclw, coupling):
        with pytest.raises(ValueError, match="at least 2 pairs"):
            objective(torch.ones(1, 4), torch.ones(1, 4))


@pytest.mark.parametrize("objective", [nt_xent, dcl])
@pytest.mark.parametrize("t", [0.1, 0.01])
def test_gradients_match_finite_differences(objective: Callable[..., Tensor], t: float) -> None:
    z1, z2 = pair(4, 3)
    assert torch.autograd.gradcheck(lambda a, b: objective(a, b, t), (z1, z2))


def test_gradients_match_finite_differences_in_the_float64_online_path() -> None:
    z1, z2 = pair(3, 3, noise=0.2)
    assert torch.autograd.gradcheck(lambda a, b: dcl(a, b, 0.002), (z1, z2), eps=1e-8, rtol=1e-3)


def test_gradients_match_finite_differences_with_every_option_on() -> None:
    z1, z2 = pair(4, 3)
    queue = pair(5, 3, seed=1)[0]
    weights = torch.rand(8, dtype=torch.float64, requires_grad=True)
    allowed = torch.rand(8, 13, generator=torch.Generator().manual_seed(0)) < 0.7

    def loss(a: Tensor, b: Tensor, extra: Tensor, w: Tensor) -> Tensor:
        return info_nce(a, b, 0.3, positive_weights=w, negatives=extra, allowed=allowed, block=3)

    assert torch.autograd.gradcheck(loss, (z1, z2, queue, weights))


def test_second_derivatives_are_refused() -> None:
    z1, z2 = pair(4)
    (first,) = torch.autograd.grad(nt_xent(z1, z2), z1, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize(("t", "dtype"), [(0.1, torch.float32), (0.01, torch.float32), (0.001, torch.float64)])
def test_blocks_equal_the_dense_matrix_in_value_and_gradient(decoupled: bool, t: float, dtype: torch.dtype) -> None:
    z1, z2 = pair(300, 32, dtype=dtype)
    d1, d2 = (z.detach().double().requires_grad_() for z in (z1, z2))
    expected = dense_nt_xent(d1, d2, t, decoupled=decoupled)
    wanted = torch.autograd.grad(expected, (d1, d2))
    loss = info_nce(z1, z2, t, positive_in_denominator=not decoupled, block=64)
    found = torch.autograd.grad(loss, (z1, z2))
    assert relative(loss, expected) < 1e-5
    assert max(relative(a, b) for a, b in zip(found, wanted, strict=True)) < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 9),
    block=st.integers(1, 20),
    extra=st.integers(0, 6),
    density=st.sampled_from([1.0, 0.8, 0.5]),
    decoupled=st.booleans(),
    t=st.sampled_from([0.1, 0.002]),
    seed=st.integers(0, 100),
)
def test_any_block_size_mask_and_queue_give_the_definition(
    n: int, block: int, extra: int, density: float, decoupled: bool, t: float, seed: int
) -> None:
    z1, z2 = pair(n, 4, seed=seed)
    queue = pair(extra, 4, seed=seed + 1)[0].detach() if extra else None
    allowed = torch.rand(2 * n, 2 * n + extra, generator=torch.Generator().manual_seed(seed)) < density
    own = torch.arange(2 * n)
    allowed[own, (own + 1) % (2 * n)] = True  # every anchor keeps a negative, unless that one is its positive
    allowed[own, (own + 2) % (2 * n)] = True
    expected = naive_per_anchor(z1, z2, t, decoupled=decoupled, queue=queue, allowed=lambda a, b: bool(allowed[a, b]))
    found = info_nce(
        z1,
        z2,
        t,
        positive_in_denominator=not decoupled,
        allowed=allowed,
        negatives=queue,
        reduction="none",
        block=block,
    )
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_a_pair_rule_is_the_mask_it_describes() -> None:
    z1, z2 = pair(8)
    groups = torch.tensor([0, 0, 1, 1, 0, 1, 2, 2]).repeat(2)
    by_rule = info_nce(z1, z2, allowed=lambda a, b: groups[a][:, None] == groups[b], block=5)
    by_matrix = info_nce(z1, z2, allowed=groups[:, None] == groups)
    torch.testing.assert_close(by_rule, by_matrix)


def test_negatives_within_one_group_equal_the_batch_of_that_group_alone() -> None:
    z1, z2 = pair(9)
    groups = torch.tensor([0] * 4 + [1] * 5)
    losses = info_nce(z1, z2, allowed=(groups.repeat(2)[:, None] == groups.repeat(2)), reduction="none")
    alone = info_nce(z1[:4], z2[:4], reduction="none")
    torch.testing.assert_close(losses[groups.repeat(2) == 0], alone)


@pytest.mark.parametrize(("objective", "decoupled"), [(nt_xent, False), (dcl, True)])
def test_anchors_without_negatives_are_skipped_and_counted(objective: Callable[..., Tensor], decoupled: bool) -> None:
    z1, z2 = pair(3)
    groups = torch.tensor([0, 0, 1]).repeat(2)
    with pytest.warns(UserWarning, match="2 of 6 anchors have no permitted negative"):
        loss = info_nce(z1, z2, positive_in_denominator=not decoupled, allowed=groups[:, None] == groups)
    torch.testing.assert_close(loss, objective(z1[:2], z2[:2]))
    gradient = torch.autograd.grad(loss, z1)[0]
    assert torch.isfinite(gradient).all()
    assert (gradient[2] == 0).all()


def test_no_negative_at_all_is_an_error() -> None:
    z1, z2 = pair(3)
    with pytest.raises(ValueError, match="no anchor with a negative"):
        info_nce(z1, z2, allowed=torch.zeros(6, 6, dtype=torch.bool))


def test_a_queue_alone_serves_a_single_pair() -> None:
    z1, z2 = pair(1)
    queue = pair(4, seed=3)[0].detach()
    expected = naive_per_anchor(z1, z2, 0.1, decoupled=False, queue=queue)
    # The pair's two anchors repel the queue alone.
    torch.testing.assert_close(
        info_nce(z1, z2, negatives=queue, reduction="none").detach(), torch.tensor(expected, dtype=torch.float64)
    )


def test_a_mask_over_the_batch_leaves_the_queue_permitted() -> None:
    z1, z2 = pair(3)
    queue = pair(4, seed=3)[0].detach()
    narrow = torch.rand(6, 6) < 0.5
    wide = torch.cat([narrow, torch.ones(6, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(
        info_nce(z1, z2, negatives=queue, allowed=narrow), info_nce(z1, z2, negatives=queue, allowed=wide)
    )


def test_dclw_weights_average_to_one_and_favour_badly_aligned_pairs() -> None:
    z1, z2 = pair(20)
    weights = dclw_weights(z1, z2, 0.5)
    cosines = torch.nn.functional.cosine_similarity(z1, z2)
    assert float(weights.mean().detach()) == pytest.approx(1.0, abs=1e-12)
    assert torch.equal(weights.argsort(), cosines.argsort(descending=True))


def test_a_dclw_weight_is_negative_past_twice_the_mean_share() -> None:
    z1 = torch.eye(8)
    z2 = torch.cat([z1[:1], -z1[1:]])
    assert float(dclw_weights(z1, z2, 0.1)[0]) == pytest.approx(2 - 8, abs=1e-4)


def test_dclw_with_a_wide_sigma_is_dcl() -> None:
    z1, z2 = pair(6)
    torch.testing.assert_close(dclw(z1, z2, 0.1, 1e9), dcl(z1, z2, 0.1), rtol=1e-8, atol=1e-8)


def test_detached_dclw_weights_carry_no_gradient() -> None:
    z1, z2 = pair(5, 3)
    frozen = dclw_weights(z1, z2).detach().repeat(2)
    found = torch.autograd.grad(dclw(z1, z2), (z1, z2))
    wanted = torch.autograd.grad(info_nce(z1, z2, positive_in_denominator=False, positive_weights=frozen), (z1, z2))
    torch.testing.assert_close(found, wanted)


def test_attached_dclw_weights_carry_their_gradient() -> None:
    z1, z2 = pair(4, 3)
    assert torch.autograd.gradcheck(lambda a, b: dclw(a, b, 0.2, 0.5, detach_weights=False), (z1, z2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("objective", [nt_xent, dcl, dclw])
def test_narrow_input_is_computed_in_float32(objective: Callable[..., Tensor], dtype: torch.dtype) -> None:
    z1, z2 = (z.detach().to(dtype) for z in pair(16))
    loss = objective(z1, z2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, objective(z1.float(), z2.float()))


@pytest.mark.parametrize("objective", [nt_xent, dcl, dclw])
def test_autocast_changes_nothing(objective: Callable[..., Tensor]) -> None:
    z1, z2 = pair(16, dtype=torch.float32)
    plain = objective(z1, z2)
    wanted = torch.autograd.grad(plain, (z1, z2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = objective(z1, z2)
        found = torch.autograd.grad(cast, (z1, z2))
    assert torch.equal(plain, cast)
    torch.testing.assert_close(found, wanted)


def test_the_loss_ignores_the_length_of_rows_and_the_order_of_samples_and_views() -> None:
    z1, z2 = pair(10)
    order = torch.randperm(10)
    loss = nt_xent(z1, z2)
    torch.testing.assert_close(nt_xent(z1 * 7, z2 * torch.rand(10, 1)), loss)
    torch.testing.assert_close(nt_xent(z1[order], z2[order]), loss)
    torch.testing.assert_close(nt_xent(z2, z1), loss)


def test_an_all_zero_row_is_a_neutral_one_without_gradient() -> None:
    z1, z2 = (z.detach().clone().requires_grad_() for z in pair(5))
    with torch.no_grad():
        z1[2] = 0
    gradient = torch.autograd.grad(nt_xent(z1, z2), z1)[0]
    assert torch.isfinite(gradient).all()
    assert (gradient[2] == 0).all()


@pytest.mark.parametrize("objective", [nt_xent, dcl, dclw])
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named(objective: Callable[..., Tensor]) -> None:
    good = torch.randn(4, 3)
    bad = good.clone()
    bad[1, 2] = torch.nan
    for arguments, message in (
        ((good, torch.randn(5, 3)), r"one shape .* got \(4, 3\) and \(5, 3\)"),
        ((good[0], good[0]), r"matrix \(N, D\), got shape \(3,\)"),
        ((good.long(), good.long()), "floating point, got torch.int64"),
        ((good, bad), r"second view holds NaN or infinite values in 1 of 4 rows, column\(s\) 2"),
        ((good, good, 0.0), "temperature must be a positive number, got 0.0"),
        ((good, good, -1.0), "temperature must be a positive number, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            objective(*arguments)


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_options_are_named() -> None:
    z1, z2 = pair(4)
    for options, message in (
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"reduction": "sum"}, "'mean' or 'none', got 'sum'"),
        ({"allowed": torch.ones(4, 4, dtype=torch.bool)}, r"bool matrix \(8, 8\), got torch.bool \(4, 4\)"),
        ({"allowed": torch.ones(8, 8)}, "bool matrix .* got torch.float32"),
        ({"negatives": torch.ones(3, 5)}, r"negatives must be \(K, 8\), got \(3, 5\)"),
        ({"negatives": torch.full((3, 8), torch.inf)}, "queue of negatives holds NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            info_nce(z1, z2, **options)


Waves = Callable[[int, int], list[Tensor]]


def value_and_slopes(loss: Tensor, z1: Tensor, z2: Tensor) -> list[float]:
    """The loss, the slope of the first view's gradient along the second view, and the other way round."""
    g1, g2 = torch.autograd.grad(loss, (z1, z2))
    return [float(x.detach()) for x in (loss, (g1 * z2).sum(), (g2 * z1).sum())]


def test_dcl_and_its_gradient_are_those_of_the_published_implementations(waves: Waves) -> None:
    """A check made once outside this repository, and its figures kept.

    loss/dcl.py of raminnakhli/Decoupled-Contrastive-Learning at commit 0b9b76d takes normalised views in one direction
    and returns a mean; (loss(u1, u2) + loss(u2, u1)) / 2 was compared, where its training script takes the sum, twice
    that. Its DCLW (sigma 0.5) lets gradient flow through the weights, DCLWLoss of lightly-ai/lightly at e8d317f does
    not; DCLLoss of lightly was run too. At (N, D, t) of (6, 4, 0.5), (16, 32, 0.1), (256, 128, 0.1), (64, 64, 0.07) the
    largest relative difference, in values and in gradients with respect to the raw views, is 4.1e-15 in float64 and
    2.4e-6 in float32. Here are their values at the first of these.
    """
    z1, z2 = waves(6, 4)
    published = {
        dcl: (0.951666489534, -0.748560907876, -0.443126179645),
        dclw: (0.969574930220, -0.794225516725, -0.463115716395),
    }
    for objective, expected in published.items():
        assert value_and_slopes(objective(z1, z2, 0.5), z1, z2) == pytest.approx(expected, rel=1e-10)
    attached = dclw(z1, z2, 0.5, 0.5, detach_weights=False)
    expected = (0.969574930220, -0.838527988842, -0.483241870119)
    assert value_and_slopes(attached, z1, z2) == pytest.approx(expected, rel=1e-10)


def test_cold_orthogonal_pairs_are_where_the_published_dcl_implementation_leaks() -> None:
    """Four orthogonal pairs at t = 0.01 cost log 6 - 100.

    lightly at e8d317f gives the same value. loss/dcl.py of raminnakhli/Decoupled-Contrastive-Learning at 0b9b76d gives
    -98.19932: to the entries that it masks, of logit 100 here, it adds log(1e-45) = -103.6, which leaves of each of the
    two 0.027 beside six negatives of 1.
    """
    views = torch.eye(4, 8, dtype=torch.float64)
    assert float(dcl(views, views, 0.01)) == pytest.approx(math.log(6) - 100, abs=1e-10)


def test_nt_xent_and_its_gradient_are_those_of_the_authors_implementation(waves: Waves) -> None:
    """A check made once outside this repository, and its figures kept.

    add_contrastive_loss of google-research/simclr at commit 383d414, of objective.py and of tf2/objective.py, was run
    on TensorFlow 2.15 in float32 (its masks allow no other type). It returns the sum of the two views' means, twice
    nt_xent. At (N, D, t) of (6, 4, 0.5), (16, 32, 0.1), (256, 128, 0.1), (64, 64, 0.07) the largest relative difference
    is 6.2e-6 in the values (at a loss of 0.007; 3.0e-7 elsewhere) and 5.5e-6 in the gradients with respect to the raw
    views. NTXentLoss of lightly-ai/lightly at e8d317f and the "ce" branch of experiment/simclr/main.py in
    raminnakhli/Decoupled-Contrastive-Learning at 0b9b76d give the mean: they differ by 4.3e-14 at most in float64. Here
    are the authors' value at the first of these, and lightly's value and gradient.
    """
    z1, z2 = waves(6, 4)
    assert 2 * float(nt_xent(z1, z2, 0.5).detach()) == pytest.approx(2.581604, rel=1e-6)
    expected = (1.290801879139, -0.543392314835, -0.320482638431)
    assert value_and_slopes(nt_xent(z1, z2, 0.5), z1, z2) == pytest.approx(expected, rel=1e-10)
