"""A training that is given a number of tokens: counted where encoders are called, and as many updates as these pay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import VisionTransformer

from autodidact.catalog import cards, target
from autodidact.compare.vit_suite import CARD
from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.masked.beit import BEiT
from autodidact.methods.method import Method, Progress
from autodidact.training import Settings, learner, train
from autodidact.training import checkpoint as checkpoints
from autodidact.training.callbacks import Checkpoints
from autodidact.training.learner import Learner
from autodidact.training.run import fit
from autodidact.training.tokens import counted_tokens, outer_encoders

BATCH = 16
VIT = "small:vit?width=16&depth=1&heads=2&patch=2"
SMALL = {"beit": {"codes": 8, "fit": 200}, "i_jepa": {"depth": 1}, "jigsaw": {"orders": 4}, "swav": {"prototypes": 4}}


def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(64))


def made(name: str, *, vit: str = VIT, size: int = 16, **options: Any) -> Method:
    torch.manual_seed(0)
    encoder = build(vit, image_size=size, channels=1)
    return target(cards()[name])(encoder, **{**SMALL.get(name, {}), **options})


def blocks_tokens(method: Method) -> list[int]:
    """Filled with what goes through the first block of every vision transformer inside, wherever it is."""
    seen = list[int]()
    networks = [part for part in method.modules() if isinstance(part, VisionTransformer)]
    assert networks
    for network in networks:
        network.blocks[0].register_forward_hook(lambda _m, _i, out: seen.append(out.shape[0] * out.shape[1]))
    return seen


@pytest.mark.parametrize("name", CARD.members)
def test_tokens_of_an_update_are_counted_as_hooks_on_the_first_blocks_see_them(name: str) -> None:
    method = made(name, vit=f"{VIT}&registers=1", size=8)
    seen, settings = blocks_tokens(method), Settings(steps=1, batch_size=4, accelerator="cpu", devices=1)
    trained = Learner(method, digits(), settings)
    fit(trained, settings, [], [])
    assert trained.meter["tokens"] == sum(seen) > 0


LARGE, SMALL_VIEW = 16 + 2, 4 + 2
"""Tokens of an image of 8 pixels and of one of 4, in patches of 2: class and register token too."""
COUNTED = {
    # Two views, each through the network and through its slow copy.
    "byol": 2 * LARGE + 2 * LARGE,
    "moco_v3": 2 * LARGE + 2 * LARGE,
    "sit": 2 * LARGE + 2 * LARGE,
    # The slow copy is not shown the four small views.
    "dino": 2 * LARGE + 4 * SMALL_VIEW + 2 * LARGE,
    "ibot": 2 * LARGE + 4 * SMALL_VIEW + 2 * LARGE,
    # A masked patch costs as much as any other.
    "data2vec": LARGE + LARGE,
}


@pytest.mark.parametrize(("name", "tokens"), COUNTED.items())
def test_an_update_with_a_slow_copy_costs_what_both_networks_encode_of_each_image(name: str, tokens: int) -> None:
    settings = Settings(steps=3, batch_size=4, accelerator="cpu", devices=1)
    trained = Learner(made(name, vit=f"{VIT}&registers=1", size=8), digits(), settings)
    fit(trained, settings, [], [])
    assert trained.meter["tokens"] == 3 * 4 * tokens


def test_what_is_encoded_elsewhere_is_not_counted() -> None:
    method, progress = made("simclr"), Progress(0, 10, 0, torch.Generator().manual_seed(0))
    seen, views = blocks_tokens(method), method.views(digits().batch(np.arange(BATCH)), progress)
    with counted_tokens(outer_encoders(method)) as count:
        method.loss(views, progress)
    method.loss(views, progress)
    assert count.tokens == sum(seen) / 2 == 2 * BATCH * 65


def spent(method: Method, tokens: int, folder: Path, **changes: Any) -> Mapping[str, float]:
    settings = Settings(tokens=tokens, batch_size=BATCH, accelerator="cpu", devices=1, **changes)
    train(method, digits(), settings, out=folder, quiet=True)
    saved = checkpoints.read(folder / "checkpoints")
    assert saved is not None
    assert saved.progress["total"] == saved.progress["updates"]
    return saved.progress["meter"]


def test_at_equal_tokens_mae_has_nearly_four_times_the_updates_of_simmim(tmp_path: Path) -> None:
    tokens = 3 * BATCH * 65
    mae, simmim = spent(made("mae"), tokens, tmp_path / "mae"), spent(made("simmim"), tokens, tmp_path / "simmim")
    assert (simmim["updates"], simmim["tokens"]) == (3, tokens)
    # 16 of 64 patches and the class token, against all 64 and it.
    assert mae["updates"] == tokens // (BATCH * 17) == 11
    assert mae["tokens"] == 11 * BATCH * 17


def test_the_meter_says_what_was_spent_where_updates_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "REHEARSED_SHARE", 2.0)  # as in a long training
    method = made("i_jepa")
    tokens, seen = 60 * BATCH * 65, blocks_tokens(method)
    found = spent(method, tokens, tmp_path)
    # A copy rehearses: its hooks write to the same list. Two networks encode in an update.
    updates = int(found["updates"])
    assert found["tokens"] == sum(seen[-2 * updates :])
    assert found["tokens"] == pytest.approx(tokens, rel=0.02)
    assert len(seen) / 2 - updates == 64


def test_a_short_training_rehearses_a_tenth_of_its_updates_where_they_differ(tmp_path: Path) -> None:
    method = made("i_jepa")
    tokens, seen = 60 * BATCH * 65, blocks_tokens(method)
    found = spent(method, tokens, tmp_path)
    rehearsed = len(seen) / 2 - found["updates"]
    assert 4 < rehearsed <= found["updates"] / 10 + 1
    assert found["tokens"] == pytest.approx(tokens, rel=0.05)


def test_updates_that_all_cost_the_same_are_rehearsed_four_times(tmp_path: Path) -> None:
    method = made("simmim")
    seen = blocks_tokens(method)
    updates = int(spent(method, 5 * BATCH * 65, tmp_path)["updates"])
    assert (updates, len(seen)) == (5, 4 + 5)


def test_parts_of_an_update_are_counted_together(tmp_path: Path) -> None:
    found = spent(made("simmim"), 3 * BATCH * 65, tmp_path, accumulate=4)
    assert (found["updates"], found["tokens"]) == (3, 3 * BATCH * 65)


def test_a_training_by_tokens_is_that_of_the_same_number_of_updates(tmp_path: Path) -> None:
    tokens = 5 * BATCH * 65 + 7
    settings = Settings(steps=5, batch_size=BATCH, accelerator="cpu", devices=1)
    by_steps = train(made("data2vec"), digits(), settings, quiet=True).state_dict()
    settings = Settings(tokens=2 * tokens, batch_size=BATCH, accelerator="cpu", devices=1)
    by_tokens = train(made("data2vec"), digits(), settings, quiet=True).state_dict()
    assert all(torch.equal(value, by_tokens[name]) for name, value in by_steps.items())


def test_a_training_by_tokens_that_was_cut_off_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tokens=9 * BATCH * 17, batch_size=BATCH, accelerator="cpu", devices=1, checkpoint_steps=1)
    whole = train(made("mae"), digits(), settings, quiet=True).state_dict()
    save = Checkpoints.save

    def saving(self: Checkpoints, learner: Any) -> None:
        save(self, learner)
        if learner.updates == 4:
            raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", saving)
        with pytest.raises(InterruptedError):
            train(made("mae"), digits(), settings, out=tmp_path, quiet=True)
    again = train(made("mae"), digits(), settings, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    saved = checkpoints.read(tmp_path / "checkpoints")
    assert saved is not None
    assert (saved.progress["total"], saved.progress["meter"]["tokens"]) == (9, 9 * BATCH * 17)
    finished = train(made("mae"), digits(), settings, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(value, finished[name]) for name, value in whole.items())


def test_what_is_refreshed_before_the_first_update_is_refreshed_once(tmp_path: Path) -> None:
    method = made("beit")
    assert isinstance(method, BEiT)
    sweeps, plain = list[int](), method.refresh

    def refresh(sweep: Any, progress: Progress) -> None:
        sweeps.append(progress.step)
        plain(sweep, progress)

    method.refresh = refresh  # type: ignore[method-assign]
    spent(method, 2 * BATCH * 65, tmp_path)
    assert sweeps == [0]


def test_budgets_in_tokens_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="in tokens, or in steps or epochs, not in both"):
        Settings(tokens=5, steps=3)
    with pytest.raises(ValueError, match="tokens must be at least 1, got 0"):
        Settings(tokens=0)
    settings = Settings(tokens=1_000, batch_size=BATCH, accelerator="cpu", devices=1)
    with pytest.raises(ValueError, match="an update takes about 1,040 tokens, the budget is 1,000"):
        train(made("simmim"), digits(), settings, quiet=True)
    torch.manual_seed(0)
    convnet = target(cards()["simclr"])(build("small:convnet", image_size=8, channels=1))
    with pytest.raises(ValueError, match="needs encoders that have tokens: small:convnet has none"):
        train(convnet, digits(), settings, quiet=True)
    with pytest.raises(ValueError, match="batch size 16 is larger than the data"):
        train(made("simmim"), digits().at(np.arange(5)), settings, quiet=True)
