"""Small methods of kinds that are still to come: each must fit the contracts without a special case in the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autodidact.data import (
    ArraySource,
    Batch,
    BucketBatching,
    Field,
    Ragged,
    Schema,
    Store,
    WholeBatching,
    chained,
    derive,
    mixed,
    together,
)
from autodidact.encoders.kept import EncoderModel
from autodidact.methods.method import Group, Loss, Method, Progress, Views
from autodidact.model import Encoded, Encoder, Model, load_model
from autodidact.recipes.stages import Recipe, Run, Site, Stage, rounds, training
from autodidact.training import Settings, train

SHORT = Settings(steps=6, batch_size=8, lr=1e-2, accelerator="cpu")


class Vectors(Encoder):
    """The smallest encoder: a linear map of the field "x"."""

    accepts = "vector"

    def __init__(self, inputs: int, width: int = 3) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(inputs, width)
        self.spec = {"name": "vectors", "inputs": inputs}

    def prepare(self, fields: Mapping[str, Any]) -> Tensor:
        return fields["x"]

    def fits(self, schema: Schema) -> None:
        schema.require({"x": "vector"}, "vectors")

    def forward(
        self, inputs: Tensor, *, keep: Any = None, masked: Any = None, unplaced: Any = None, taps: Any = ()
    ) -> Encoded:
        return Encoded(pooled=self.linear(inputs))


def vectors(name: str, rows: int, width: int = 4, **more: Any) -> ArraySource:
    rng = np.random.default_rng(len(name) + rows)
    fields = {"x": rng.normal(size=(rows, width)).astype(np.float32), **more}
    schema = Schema(x=Field("vector", (width,)), **{k: Field("label") for k in more})
    return ArraySource(name, fields, schema, 1000 * len(name) + np.arange(rows))


class Watching(Method):
    """Records the batches that it is given."""

    needs: ClassVar = {"x": "vector"}

    def __init__(self, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.encoder = encoder or Vectors(4)
        self.seen: list[Batch] = []

    def views(self, batch: Batch, progress: Progress) -> Views:
        self.seen.append(batch)
        return Views({"x": batch["x"]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return Loss(self.encoder(views["x"]).pooled.square().mean())


def test_a_batch_of_two_streams_has_both_at_their_shares_and_the_shorter_one_starts_over() -> None:
    class Both(Watching):
        def views(self, batch: Batch, progress: Progress) -> Views:
            self.seen.append(batch)
            return Views({"x": torch.cat([batch["labelled"]["x"], batch["unlabelled"]["x"]])}, batch.ids)

    method = Both()
    source = together(labelled=vectors("few", 6), unlabelled=vectors("many", 64), shares={"labelled": 0.5})
    train(method, source, SHORT, quiet=True)
    assert all(len(b["labelled"]) == 4 and len(b["unlabelled"]) == 8 for b in method.seen)
    assert all(b.ids.tolist() == [*b["labelled"].ids, *b["unlabelled"].ids] for b in method.seen)
    assert {int(i) for b in method.seen for i in b["labelled"].ids} == set(source.sources["labelled"].ids.tolist())


def test_the_first_stream_sets_the_length_of_an_epoch() -> None:
    method = Watching()
    source = together(x=vectors("abc", 16), other=vectors("abcd", 64))

    def views(batch: Batch, progress: Progress) -> Views:
        method.seen.append(batch)
        return Views({"x": batch["x"]["x"]}, batch.ids)

    method.views = views  # type: ignore[method-assign]
    train(method, source, Settings(epochs=3, batch_size=8, accelerator="cpu"), quiet=True)
    assert len(method.seen) == 3 * 2


def test_mixed_sources_share_the_steps_at_their_rates() -> None:
    class Either(Watching):
        def views(self, batch: Batch, progress: Progress) -> Views:
            self.seen.append(batch)
            (stream,) = batch.streams.values()
            return Views({"x": stream["x"]}, batch.ids)

    method = Either()
    source = mixed(flat=vectors("flat", 80), deep=vectors("deeper", 80), rates={"flat": 3, "deep": 1})
    train(method, source, Settings(steps=200, batch_size=8, accelerator="cpu"), quiet=True)
    share = np.mean(["flat" in batch.streams for batch in method.seen])
    assert 0.65 < share < 0.85


def test_chained_sources_follow_one_another() -> None:
    method = Watching()
    source = chained(first=vectors("a", 16), second=vectors("ab", 24))
    train(method, source, Settings(epochs=1, batch_size=8, accelerator="cpu"), quiet=True)
    origin = [batch.ids[0].item() // 1000 for batch in method.seen]
    assert origin == [1, 1, 2, 2, 2]


class TwoTowers(Method):
    """Two encoders by name that must agree on each sample."""

    needs: ClassVar = {"x": "vector"}
    slots = ("query", "item")

    def __init__(self, query: Encoder, item: Encoder) -> None:
        super().__init__()
        self.query, self.item = query, item

    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"query": batch["x"][:, :2], "item": batch["x"][:, 2:]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        gap = self.query(views["query"]).pooled - self.item(views["item"]).pooled
        return Loss(gap.square().mean())

    def groups(self) -> list[Group]:
        return [Group("query", self.query.parameters()), Group("item", self.item.parameters(), lr_scale=0.1)]


def test_a_method_with_two_slots_trains_and_keeps_both_encoders() -> None:
    torch.manual_seed(0)
    method = TwoTowers(Vectors(2), Vectors(2))
    kept = train(method, vectors("pairs", 32), SHORT, quiet=True)
    assert isinstance(kept, EncoderModel)
    assert set(dict(kept.encoders.items())) == {"query", "item"}


def test_one_graph_stands_behind_every_batch_and_is_the_same_object() -> None:
    class Graph(Watching):
        batching = WholeBatching()

        def views(self, batch: Batch, progress: Progress) -> Views:
            self.seen.append(batch)
            return Views({"x": batch.context["adjacency"] @ batch["x"]}, batch.ids)

    nodes = vectors("nodes", 12)
    adjacency = torch.eye(12).roll(1, 0)
    nodes.context = {"adjacency": adjacency}
    method = Graph()
    train(method, nodes, SHORT, quiet=True)
    assert all(len(batch) == 12 for batch in method.seen)
    assert len({id(batch.context["adjacency"]) for batch in method.seen}) == 1
    assert torch.equal(method.seen[0].context["adjacency"], adjacency)


def test_ragged_sequences_come_in_buckets_of_similar_length() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 200)
    words = Ragged.of([torch.full((n,), float(n)) for n in lengths])
    schema = Schema(words=Field("sequence"), length=Field("group"))
    source = ArraySource("texts", {"words": words, "length": lengths}, schema, np.arange(200))

    class Text(Watching):
        needs: ClassVar = {"words": "sequence"}
        batching = BucketBatching("length", pool=10)

        def views(self, batch: Batch, progress: Progress) -> Views:
            self.seen.append(batch)
            padded, mask = batch["words"].padded()
            assert padded.shape[1] == int(batch["length"].max())
            pooled = padded.sum(1) / mask.sum(1)
            return Views({"x": pooled[:, None].expand(-1, 4) / 100})

    method = Text()
    train(method, source, Settings(epochs=1, batch_size=10, accelerator="cpu"), quiet=True)
    spread = np.mean([int(b["length"].max() - b["length"].min()) for b in method.seen])
    assert sorted(int(i) for b in method.seen for i in b.ids) == list(range(200))
    assert spread < 20
    for batch in method.seen:
        assert all(torch.equal(s, torch.full((len(s),), float(len(s)))) for s in batch["words"])


class Codes(Method):
    """Learns to tell apart codes that an earlier stage derived."""

    needs: ClassVar = {"x": "vector", "code": "label"}

    def __init__(self, encoder: Encoder, *, classes: int = 2) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.width, classes)
        self.codes: list[Tensor] = []

    def views(self, batch: Batch, progress: Progress) -> Views:
        self.codes.append(batch["code"])
        return Views({"x": batch["x"], "code": batch["code"]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        logits = self.head(self.encoder(views["x"]).pooled)
        return Loss(nn.functional.cross_entropy(logits, views["code"]))


class Vectored(EncoderModel):
    """An `EncoderModel` of this file's encoder, which the catalogue of encoders does not know."""

    kind = "vectored"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Vectored:
        return cls({"encoder": Vectors(4)})


class Bootstrapped(Recipe):
    """Rounds of: derive labels with the last round's model, join them, train on them."""

    needs: ClassVar = {"x": "vector"}

    def __init__(self, *, count: int = 2) -> None:
        self.count = count
        self.ran: list[str] = []
        self.fail_in = ""

    def stages(self, site: Site) -> list[Stage]:
        def derived(number: int, results: Mapping[str, Any]) -> Store:
            self.ran.append(f"derive.{number}")
            store = site.store(f"derive.{number}", code=Field("label"))
            model = results.get(f"train.{number - 1}")

            def rows(batch: Batch) -> dict[str, Any]:
                value = batch["x"][:, 0] if model is None else model.embed(batch)[:, 0].detach()
                dropped = ["too close to call" if abs(float(v)) < 0.01 else None for v in value]
                return {"code": (value > 0).long(), "dropped": dropped}

            return derive(rows, site.source, store, batch_size=7)

        def trained(number: int, results: Mapping[str, Any]) -> Model:
            self.ran.append(f"train.{number}")
            if self.fail_in == f"train.{number}":
                raise InterruptedError
            torch.manual_seed(number)
            method = Codes(site.encoder("encoder"))
            kept = site.train(f"train.{number}", method, site.source.joined(results[f"derive.{number}"]))
            assert isinstance(kept, EncoderModel)
            return Vectored({"encoder": kept.encoder})

        def one(number: int) -> list[Stage]:
            before = (f"train.{number - 1}",) if number > 1 else ()
            return [
                Stage(f"derive.{number}", lambda results: derived(number, results), before),
                Stage(f"train.{number}", training(lambda results: trained(number, results)), (f"derive.{number}",)),
            ]

        return rounds(self.count, one)


def site(folder: Path) -> Site:
    return Site(vectors("data", 40), lambda slot: Vectors(4), SHORT, folder, quiet=True)


def test_labels_derived_in_one_stage_are_joined_by_id_in_the_next_and_rounds_see_earlier_rounds(tmp_path: Path) -> None:
    recipe = Bootstrapped()
    result = Run(recipe.stages(site(tmp_path)), tmp_path, {"vectored": Vectored}).result()
    assert recipe.ran == ["derive.1", "train.1", "derive.2", "train.2"]
    store = Store(tmp_path / "stages" / "derive.1" / "store")
    source = site(tmp_path).source
    by_id = dict(zip(store.ids.tolist(), np.asarray(store.column("code")).tolist(), strict=True))
    x = source.column("x")[:, 0]
    assert all(by_id[i] == int(v > 0) for i, v in zip(source.ids.tolist(), x, strict=True) if i in by_id)
    assert set(source.ids.tolist()) == set(by_id) | set(store.dropped)
    assert isinstance(result, Vectored)


def test_a_recipe_cut_off_in_its_third_stage_goes_on_there_and_ends_alike(tmp_path: Path) -> None:
    whole = Run(Bootstrapped().stages(site(tmp_path / "a")), tmp_path / "a", {"vectored": Vectored}).result()
    cut = Bootstrapped()
    cut.fail_in = "train.2"
    with pytest.raises(InterruptedError):
        Run(cut.stages(site(tmp_path / "b")), tmp_path / "b", {"vectored": Vectored}).result()
    again = Bootstrapped()
    resumed = Run(again.stages(site(tmp_path / "b")), tmp_path / "b", {"vectored": Vectored}).result()
    assert again.ran == ["train.2"]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))  # type: ignore[union-attr]


def test_a_stage_that_names_a_parent_which_does_not_exist_is_refused_before_anything_runs(tmp_path: Path) -> None:
    stages = [Stage("train", lambda _: Store()), Stage("label", lambda _: Store(), ("trian",))]
    with pytest.raises(ValueError, match="did you mean 'train'"):
        Run(stages, tmp_path)


def test_a_model_of_settings_alone_is_saved_and_loaded(tmp_path: Path) -> None:
    from autodidact.model import Weightless

    class Prompt(Weightless):
        kind = "prompt"
        abilities = ("generate",)

        def __init__(self, text: str) -> None:
            super().__init__()
            self.settings = {"text": text}

        @classmethod
        def from_settings(cls, settings: Mapping[str, Any]) -> Prompt:
            return cls(settings["text"])

        def generate(self, batch: Batch) -> list[str]:
            return [self.settings["text"]] * len(batch)

    Prompt("Say it in one line.").save(tmp_path)
    loaded = load_model(tmp_path, kinds={"prompt": Prompt})
    assert loaded.settings == {"text": "Say it in one line."}
    assert loaded.abilities == ("generate",)
