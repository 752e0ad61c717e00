"""LOOK: the bank behind the loss, who is a neighbour of whom, and that coarse labels teach it digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import Field, Source, Store, open_source
from autodidact.data.batch import Batch
from autodidact.encoders import build
from autodidact.measures import knn_predict
from autodidact.methods.image.look import LOOK
from autodidact.methods.method import Progress
from autodidact.methods.supervised import Supervised
from autodidact.model import load_model
from autodidact.objectives import leave_one_out
from autodidact.targets import Queue
from autodidact.training import Settings, train
from autodidact.verbs.pretrain import pretrain


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source: Source, *, samples: int = 200, width: int = 4, **options) -> LOOK:
    torch.manual_seed(0)
    return LOOK(
        build("small:convnet", schema=source.schema, width=width),
        samples=samples,
        **{"neighbours": 5, "view": "none", **options},
    )


def progress(step: int = 0) -> Progress:
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def stepped(method: LOOK, batch: Batch, step: int = 0):
    loss = method.loss(method.views(batch, progress(step)), progress(step))
    method.after_update(progress(step))
    return loss


def test_the_loss_compares_queries_with_the_keys_of_other_samples(digits):
    method = made(digits)
    stepped(method, digits.batch(np.arange(100)))
    batch = digits.batch(np.arange(80, 120))
    loss = method.loss(method.views(batch, progress()), progress())
    ids, bank = batch.ids, method.keys
    assert sorted(bank.ids.tolist()) == sorted(digits.ids[:120].tolist())
    own = ids[:, None] == bank.ids
    expected = leave_one_out(
        loss.watch["projection"], batch["label"], bank.embeddings, bank.labels, k=5, temperature=0.1, own=own
    )
    assert torch.equal(loss.total, expected.total)
    assert set(loss.terms) == {"empty", "left_out", "unlabelled"}
    leaked = leave_one_out(loss.watch["projection"], batch["label"], bank.embeddings, bank.labels, k=1, temperature=0.1)
    assert float(leaked.total.detach()) < 0.5 * float(expected.total.detach())


def test_an_own_key_is_a_neighbour_where_it_is_not_left_out(digits):
    method = made(digits, leave_one_out=False)
    batch = digits.batch(np.arange(60))
    loss = method.loss(method.views(batch, progress()), progress())
    bank = method.keys
    total = leave_one_out(
        loss.watch["projection"], batch["label"], bank.embeddings, bank.labels, k=5, temperature=0.1, own=None
    ).total
    assert torch.equal(loss.total, total)
    without = made(digits).loss(method.views(batch, progress()), progress())
    assert float(loss.total.detach()) < float(without.total.detach())


def test_a_query_and_its_key_are_two_views(digits):
    views = made(digits, view="tiny").views(digits.batch(np.arange(20)), progress())
    assert not torch.equal(views["query"], views["key"])
    same = made(digits, view="none").views(digits.batch(np.arange(20)), progress())
    assert torch.equal(same["query"], same["key"])


def test_a_bank_with_room_for_the_data_holds_each_sample_once_with_its_newest_key(digits):
    method = made(digits, samples=30, neighbours=3)
    for step, start in enumerate((0, 10, 15, 5)):
        stepped(method, digits.batch(np.arange(start, start + 15)), step)
    assert sorted(method.keys.ids.tolist()) == sorted(digits.ids[:30].tolist())
    assert torch.equal(method.keys.labels, torch.from_numpy(digits.only(method.keys.ids.numpy()).column("label")))


def test_a_smaller_bank_is_a_queue_of_the_latest_keys(digits):
    method = made(digits, samples=200, bank=20, neighbours=3)
    for step, start in enumerate((0, 15)):
        stepped(method, digits.batch(np.arange(start, start + 15)), step)
    assert set(method.keys.ids.tolist()) == set(digits.ids[10:30].tolist())


def test_a_queue_of_all_data_without_momentum_is_the_whole_bank(digits):
    batch = digits.batch(np.arange(60))
    whole = made(digits, samples=60, momentum=0.0)
    queue = made(digits, samples=60, momentum=0.0)
    queue.keys = Queue(60, 128)
    losses = [[float(stepped(method, batch, step).total.detach()) for step in range(3)] for method in (whole, queue)]
    assert losses[0] == losses[1]


def test_without_momentum_the_keys_are_those_of_the_network_itself(digits):
    method = made(digits, samples=60, momentum=0.0)
    batch = digits.batch(np.arange(60))
    stepped(method, batch)
    images = method.encoder.prepare(batch.fields)
    method.eval()
    torch.testing.assert_close(
        method.slow_projector(method.slow_encoder(images).pooled), method.projector(method.encoder(images).pooled)
    )


@pytest.mark.parametrize("bank", [200, 20])
def test_keys_get_no_gradient_and_the_slow_copy_is_not_trained(digits, bank):
    method = made(digits, bank=bank)
    loss = method.loss(method.views(digits.batch(np.arange(40)), progress()), progress())
    loss.total.backward()
    assert not loss.watch["projection_b"].requires_grad
    assert not method.keys.embeddings.requires_grad
    trained = {id(p) for group in method.groups() for p in group.parameters}
    assert not any(id(p) in trained or p.grad is not None for p in method.slow_encoder.parameters())


def test_an_image_without_a_label_does_not_count_and_is_nobodys_neighbour(digits):
    losses = []
    for known in (True, False):
        method = made(digits, samples=60).eval()
        batch = digits.batch(np.arange(40))
        bank = digits.batch(np.arange(40, 60))
        keys = method.slow_projector(method.slow_encoder(method.encoder.prepare(bank.fields)).pooled)
        method.keys.push(keys, bank.ids, bank["label"])
        if not known:
            stray = digits.batch(np.arange(60, 80))
            keys = method.slow_projector(method.slow_encoder(method.encoder.prepare(stray.fields)).pooled)
            method.keys.push(keys, stray.ids, torch.full((20,), -1))
            batch.fields["label"] = torch.cat([batch["label"][:30], torch.full((10,), -1)])
        else:
            batch = batch.select(torch.arange(30))
        losses.append(method.loss(method.views(batch, progress()), progress()))
    torch.testing.assert_close(losses[0].total, losses[1].total, rtol=1e-5, atol=1e-6)
    assert [float(loss.terms["unlabelled"]) for loss in losses] == [0.0, 0.25]


def test_outside_of_training_the_bank_stays_as_it_is(digits):
    method = made(digits)
    stepped(method, digits.batch(np.arange(40)))
    before = method.keys.rows.clone()
    method.eval()
    method.loss(method.views(digits.batch(np.arange(40, 60)), progress()), progress())
    assert torch.equal(method.keys.rows, before)


def test_the_bank_is_part_of_the_state(digits):
    method, other = made(digits), made(digits, width=4)
    stepped(method, digits.batch(np.arange(40)))
    other.load_state_dict(method.state_dict())
    batch = digits.batch(np.arange(40, 70))
    losses = [float(m.loss(m.views(batch, progress()), progress()).total.detach()) for m in (method, other)]
    assert losses[0] == losses[1]


def test_as_many_neighbours_as_the_bank_has_keys_are_warned_of(digits):
    with pytest.warns(UserWarning, match="59 neighbours are all of a bank of 60 keys: this is NCA"):
        made(digits, samples=60, neighbours=59)


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neighbours": -1}, "neighbours"),
        ({"bank": 0, "neighbours": 0}, "size=0"),
        ({"momentum": 1.5}, "momentum"),
        ({"temperature": 0.0}, "temperature"),
        ({"fallback": "nearest"}, "nearest_positive, full, skip"),
        ({"positives": "in"}, "inside, outside"),
    ],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        method = made(digits, **options)
        stepped(method, digits.batch(np.arange(10)))


def test_data_without_labels_is_refused(digits, tmp_path):
    with pytest.raises(ValueError, match="'label' of kind label"):
        pretrain("look", digits.without("label"), out=tmp_path, quiet=True)


@pytest.mark.parametrize("name", ["look", "sla"])
@pytest.mark.parametrize(
    ("label", "said"),
    [(-1, "none of the [0-9,]+ samples of .* has one"), (3, "the [0-9,]+ labelled samples of .* are of one")],
)
def test_labels_that_teach_nothing_are_refused_before_training(name, label, said, digits, tmp_path):
    store = Store(name="alike", schema={"label": Field("label", classes=tuple("0123456789"))})
    store.append(digits.ids, label=np.full(len(digits), label))
    with pytest.raises(ValueError, match=said):
        pretrain(name, digits.joined(store), out=tmp_path, quiet=True)


def halves(digits: Source) -> Source:
    """Digits by whether they are below 5: two classes of five modes each."""
    store = Store(name="halves", schema={"label": Field("label", classes=("low", "high"))})
    store.append(digits.ids, label=(np.asarray(digits.column("label")) >= 5).astype(np.int64))
    return digits.joined(store)


def test_two_coarse_classes_teach_it_to_tell_ten_digits_apart(digits, tmp_path):
    def accuracy(embed):
        rows = embed(digits.batch(np.arange(len(digits))))
        labels = torch.from_numpy(np.asarray(digits.column("label")))
        return float((knn_predict(rows[:1200], labels[:1200], rows[1200:]) == labels[1200:]).float().mean())

    method = made(digits, samples=1200, neighbours=50, width=8, momentum=0.9)
    before = accuracy(method.kept().eval().embed)
    source = halves(digits).at(np.arange(1200))
    model = train(method, source, Settings(steps=80, batch_size=64, lr=3e-3), quiet=True)
    with torch.no_grad():
        after = accuracy(model.embed)
        model.save(tmp_path)
        assert accuracy(load_model(tmp_path).embed) == after
    assert after > before + 0.05


def test_supervised_training_can_read_its_classes_from_a_projection(digits):
    torch.manual_seed(0)
    encoder = build("small:convnet", schema=digits.schema, width=4)
    method = Supervised(encoder, schema=digits.schema, projection=12)
    head = method.predictor.head
    assert [type(part).__name__ for part in head.projector] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert head.out.in_features == 12
    embedding = torch.randn(9, encoder.width)
    torch.testing.assert_close(head(embedding), head.out(head.projector(embedding)))
    assert {id(p) for p in head.projector.parameters()} <= {id(p) for g in method.groups() for p in g.parameters}
    with pytest.raises(ValueError, match="projection"):
        Supervised(encoder, schema=digits.schema, projection=-1)


def test_the_embedding_that_is_kept_lies_before_the_projection(digits, tmp_path):
    torch.manual_seed(0)
    encoder = build("small:convnet", schema=digits.schema, width=4)
    method = Supervised(encoder, schema=digits.schema, projection=12)
    batch = digits.batch(np.arange(6))
    loaded = load_model(method.kept().eval().save(tmp_path))
    with torch.no_grad():
        assert loaded.embed(batch).shape == (6, encoder.width)
        torch.testing.assert_close(loaded.predict(batch), method.predictor.predict(batch))
