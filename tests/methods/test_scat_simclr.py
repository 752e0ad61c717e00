"""ScatSimCLR: its two terms, its labels, and what it is without the pretext task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from autodidact.data import Batch, Source, open_source
from autodidact.encoders import build
from autodidact.evaluation.embeddings import embedder
from autodidact.methods.image.scat_simclr import ScatSimCLR
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Progress
from autodidact.methods.pretext import JigsawTask, RotationTask
from autodidact.objectives import nt_xent
from autodidact.training import Settings, train
from autodidact.views import Augment
from autodidact.views.jigsaw import distant_orders


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def encoder(side: Any = 8, **options: Any) -> Any:
    torch.manual_seed(0)
    return build(
        "small:scatnet", image_size=side, channels=1, **{"orientations": 4, "width": 8, "blocks": 1, **options}
    )


def made(**options: Any) -> ScatSimCLR:
    torch.manual_seed(1)
    return ScatSimCLR(encoder(), **{"view": "tiny", **options})


def progress(step: int = 0) -> Progress:
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("pretext", "rows"), [("rotation", 48), ("jigsaw", 108)])
def test_the_loss_is_nt_xent_and_lam_times_the_cross_entropy_of_the_task(digits, pretext, rows) -> None:
    method = made(pretext=pretext, lam=0.7, temperature=0.4).eval()
    views = method.views(digits.batch(np.arange(12)), progress())
    assert len(views["pretext"]) == rows
    loss = method.loss(views, progress())
    contrast = nt_xent(loss.watch["projection"], loss.watch["projection_b"], 0.4)
    said = method.pretext.logits(method.encoder(views["pretext"]).pooled)
    expected = contrast + 0.7 * cross_entropy(said, views["done"])
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=1e-6)


def test_without_the_task_it_is_simclr_on_the_same_encoder(digits) -> None:
    method = made(lam=0.0, temperature=0.4)
    torch.manual_seed(1)
    plain = SimCLR(encoder(), view="tiny", temperature=0.4)
    assert method.state_dict().keys() == plain.state_dict().keys()
    settings = Settings(steps=3, batch_size=16, accelerator="cpu", devices=1)
    for one in (method, plain):
        train(one, digits, settings, quiet=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(method.state_dict()[name], value)


def test_with_the_task_its_views_of_the_contrast_are_still_those_of_simclr(digits) -> None:
    batch = digits.batch(np.arange(6))
    with_task, without = made().views(batch, progress()), made(lam=0.0).views(batch, progress())
    assert torch.equal(with_task["a"], without["a"])
    assert torch.equal(with_task["b"], without["b"])


def arrow() -> Tensor:
    """An arrow that points up."""
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, :, 2] = 1.0
    image[0, 0, 1, 1:4] = 1.0
    return image


def test_rotation_labels_count_quarter_turns_of_four_views_of_each_image() -> None:
    plain = Augment.preset("none", 5)
    task = RotationTask(encoder(5), plain)
    images, labels = task.views(Batch(torch.arange(2), {"image": arrow().repeat(2, 1, 1, 1)}), generator())
    assert labels.tolist() == [0, 1, 2, 3] * 2
    for image, label in zip(images, labels.tolist(), strict=True):
        back = image
        for _ in range(label):
            back = back.transpose(1, 2).flip(2)  # a quarter turn clockwise
        torch.testing.assert_close(back, arrow()[0])


def test_the_four_views_of_an_image_are_augmented_apart() -> None:
    task = RotationTask(encoder(5), Augment.preset("tiny", 5))
    images, labels = task.views(Batch(torch.arange(1), {"image": arrow()}), generator())
    upright = task.turns.undo(images, labels)
    assert all(not torch.equal(upright[i], upright[j]) for i in range(4) for j in range(i))


def test_turned_views_see_their_box_only() -> None:
    canvas = torch.zeros(2, 1, 5, 9)
    canvas[..., :5] = arrow()
    canvas[..., 5:] = 0.5
    box = torch.tensor([[0, 0, 5, 5]]).repeat(2, 1)
    images, _ = RotationTask(encoder(5), Augment.preset("none", 5)).views(
        Batch(torch.arange(2), {"image": canvas, "box": box}), generator()
    )
    torch.testing.assert_close(images[0], arrow()[0])
    assert bool(((images == 0) | (images == 1)).all())


def test_jigsaw_labels_name_the_order_in_which_the_tiles_lie() -> None:
    task = JigsawTask(encoder(4))
    corners = torch.arange(9.0).view(3, 3) / 9
    batch = Batch(
        torch.arange(50), {"image": corners.repeat_interleave(4, 0).repeat_interleave(4, 1).repeat(50, 1, 1, 1)}
    )
    images, labels = task.views(batch, generator())
    shown = (images.unflatten(0, (50, 9)).mean(dim=(2, 3, 4)) * 9).round().long()
    assert torch.equal(shown, distant_orders(35, 9)[labels])
    assert len(labels.unique()) > 20


def test_the_task_trains_encoder_and_head_and_nothing_else(digits) -> None:
    method = made()
    method.loss(method.views(digits.batch(np.arange(8)), progress()), progress()).terms["pretext"].backward()
    assert all(parameter.grad is None for parameter in method.projector.parameters())
    assert all(parameter.grad is not None for parameter in method.encoder.parameters())
    assert all(parameter.grad is not None for parameter in method.pretext.parameters())


def test_it_trains_in_training_mode_after_every_look_of_the_monitors(digits) -> None:
    modes, counts = [], []

    class Watched(ScatSimCLR):
        def loss(self, views, progress):
            modes.append(all(module.training for module in self.modules()))
            counts.append(int(self.encoder.norm.num_batches_tracked))
            return super().loss(views, progress)

    method = Watched(encoder(), view="tiny")
    settings = Settings(steps=6, batch_size=16, monitor_steps=2, accelerator="cpu", devices=1)
    train(method, digits, settings, quiet=True)
    assert modes == [True] * 6
    # Two forward passes an update: the contrast's and the task's.
    assert counts == [0, 2, 4, 6, 8, 10]


def test_a_model_that_was_evaluated_trains_in_training_mode_again(digits) -> None:
    modes = []

    class Watched(ScatSimCLR):
        def loss(self, views, progress):
            modes.append(all(module.training for module in self.modules()))
            return super().loss(views, progress)

    method = Watched(encoder(), view="tiny")
    settings = Settings(steps=2, batch_size=16, accelerator="cpu", devices=1)
    for _ in range(2):
        model = train(method, digits, settings, quiet=True)
        embedder(model)(digits.batch(np.arange(8)))
        assert not method.encoder.training
    assert modes == [True] * 4


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lam": -0.1}, "lam not negative, got 0.5 and -0.1"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"pretext": "rotations"}, "did you mean 'rotation'"),
        ({"pretext_dropout": 1.0}, r"a probability in \[0, 1\), got 1.0"),
        ({"view": "tny"}, "nearest: 'tiny'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**options)


def test_images_that_do_not_turn_into_themselves_need_another_task() -> None:
    with pytest.raises(ValueError, match="needs square images, got 8 x 12 pixels"):
        ScatSimCLR(encoder((8, 12)))
    assert ScatSimCLR(encoder((8, 12)), pretext="jigsaw").pretext is not None


def test_it_learns_digits_better_than_its_own_random_start(taught) -> None:
    _, before, after = taught(made(), 250)
    assert after > before + 0.02
