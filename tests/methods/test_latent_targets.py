"""data2vec and I-JEPA: what a slow copy makes of the whole image, said from a part of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodidact.encoders import build
from autodidact.methods.masked.data2vec import Data2Vec
from autodidact.methods.masked.i_jepa import IJEPA
from autodidact.methods.method import Method, Progress, Views
from autodidact.model import Encoder


def encoder(depth: int = 4) -> Encoder:
    torch.manual_seed(0)
    return build(f"small:vit?width=16&depth={depth}&heads=2&patch=2", image_size=16, channels=1)


def moved(method: Method) -> Method:
    """Away from the start, where teacher and network agree and heads are near 0; in float64."""
    for parameter in method.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return method.double()


def progress() -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(0))


def views(method: Data2Vec | IJEPA, n: int = 3) -> Views:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 1, 16, 16, generator=generator, dtype=torch.float64)
    return Views({"images": images, **method.hide(n, generator)}, torch.arange(n))


def unit(token: Tensor) -> Tensor:
    return (token - token.mean()) / (token.var(unbiased=False) + 1e-5).sqrt()


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    size = difference.abs()
    return torch.where(size <= beta, size.square() / (2 * beta), size - beta / 2)


def test_data2vecs_target_is_the_mean_of_the_normalised_outputs_of_the_last_blocks_of_its_teacher() -> None:
    method = moved(Data2Vec(encoder(), top=3, beta=0.7))
    assert isinstance(method, Data2Vec)
    shown, hooked = views(method), list[Tensor]()
    for block in method.teacher.module.model.blocks:
        block.register_forward_hook(lambda _m, _i, out: hooked.append(out[:, 1:]))
    found = method.loss(shown, progress()).total
    tokens, errors = method.seen(shown).detach(), []
    for row, patch in shown["mask"].nonzero().tolist():
        wanted = sum(unit(out[row, patch]) for out in hooked[1:4]) / 3
        said = tokens[row, patch] @ method.head.weight.T + method.head.bias
        errors.append(smooth_l1(said - wanted, 0.7).mean().detach())
    assert float(found.detach()) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-6)


def test_data2vec_averages_the_upper_half_of_the_blocks_unless_told_otherwise() -> None:
    assert Data2Vec(encoder(4)).taps == (2, 3)
    assert Data2Vec(encoder(1)).taps == (0,)
    with pytest.raises(ValueError, match="top is a number of the 4 blocks and beta is positive, got 5 and 2"):
        Data2Vec(encoder(), top=5)
    with pytest.raises(ValueError, match="beta is positive, got 2 and 0"):
        Data2Vec(encoder(), beta=0.0)


def test_i_jepas_loss_is_that_of_a_loop_over_images_blocks_and_patches() -> None:
    method = moved(IJEPA(encoder(), targets=2, hidden=8, heads=2, depth=1))
    assert isinstance(method, IJEPA)
    shown = views(method)
    found = method.loss(shown, progress()).total
    whole = method.teacher(shown["images"]).tokens
    errors = []
    for row in range(3):
        keep = shown["context"][row : row + 1]
        seen = method.encoder(shown["images"][row : row + 1], keep=keep).tokens
        for block in shown["targets"][row]:
            said = method.predictor(seen, keep, block[None, None])[0, 0]
            for place, patch in enumerate(block.tolist()):
                errors.append(smooth_l1(said[place] - unit(whole[row, patch]), 1.0).mean().detach())
    assert float(found.detach()) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-6)


def test_i_jepas_network_sees_the_context_alone_and_its_teacher_all() -> None:
    method = moved(IJEPA(encoder(), hidden=8, heads=2, depth=1))
    assert isinstance(method, IJEPA)
    shown = views(method)
    lengths: dict[str, list[int]] = {"student": [], "teacher": []}
    for name, network in (("student", method.encoder), ("teacher", method.teacher.module)):
        for block in network.model.blocks:
            block.register_forward_hook(lambda _m, _i, out, name=name: lengths[name].append(out.shape[1]))
    method.loss(shown, progress())
    assert lengths == {"student": [1 + shown["context"].shape[1]] * 4, "teacher": [1 + 64] * 4}


def test_i_jepa_keeps_the_teacher_and_it_can_be_trained_again() -> None:
    method = moved(IJEPA(encoder()))
    assert isinstance(method, IJEPA)
    kept = method.kept().encoder
    for ours, theirs in zip(kept.parameters(), method.teacher.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.requires_grad
        assert ours is not theirs


def test_a_grid_without_room_for_the_blocks_is_refused_at_once() -> None:
    torch.manual_seed(0)
    small = build("small:vit?width=16&depth=1&heads=2&patch=4", image_size=8, channels=1)
    with pytest.raises(ValueError, match="on a grid of 2 x 2 tokens"):
        IJEPA(small, target_area=(0.5, 1.0))
    with pytest.raises(ValueError, match="target_area is the smallest and the largest value"):
        IJEPA(encoder(), target_area=(0.5,))  # type: ignore[arg-type]
