"""Continual pretraining: one optimiser and one count of updates through a stream, branches, resuming, forgetting."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from autodidact.cli.main import main
from autodidact.data import Source, open_source
from autodidact.evaluation.table import Table
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.method import Group
from autodidact.recipes.continual import Continual
from autodidact.recipes.names import encoder_maker
from autodidact.recipes.stages import Run, Site
from autodidact.schedules import Plan
from autodidact.training import Settings
from autodidact.training import checkpoint as checkpoints
from autodidact.training.callbacks import Checkpoints
from autodidact.training.learner import Learner

INFINITE = Settings(
    steps=10, batch_size=16, schedule="infinite", warmup=0.2, cooldown=0.3, anneal=0.2, accelerator="cpu",
    checkpoint_steps=1, lr=3e-3,
)  # fmt: skip
METHOD = {"name": "barlow_twins", "dimensions": 8}


@pytest.fixture(scope="module")
def stream() -> list[Source]:
    """Digits 0 to 2, 3 to 5 and 6 to 9."""
    digits = open_source("digits", progress=False)
    labels = np.asarray(digits.column("label"))
    return [digits.at(np.flatnonzero(np.isin(labels, some))[:80]) for some in ([0, 1, 2], [3, 4, 5], [6, 7, 8, 9])]


def site(source: Source, folder, settings: Settings = INFINITE) -> Site:
    return Site(
        source, encoder_maker({"encoder": "small:convnet"}, source, 0, {"width": 4}), settings, folder, quiet=True
    )


@pytest.fixture(scope="module")
def watched(stream, tmp_path_factory):
    """The folder of a run through three data sets, and its rates."""
    folder = tmp_path_factory.mktemp("usual")
    with watched_rates() as rates:
        run(stream, folder)
    return folder, rates


@pytest.fixture(scope="module")
def usual(watched):
    return watched[0]


def run(stream, folder, settings: Settings = INFINITE, **options):
    recipe = Continual(**{"then": stream[1:], "method": METHOD, "held": 0.3, **options})
    return Run(recipe.stages(site(stream[0], folder, settings)), folder).result()


def table(folder) -> Table:
    return Table.load(folder / "stages" / "forgetting" / "table.json")


def ended(folder, stage: str):
    return checkpoints.read(folder / "stages" / stage / "checkpoints")


class TwoRates(BarlowTwins):
    """A projector that learns three times as fast as the encoder."""

    def groups(self) -> list[Group]:
        return [Group("encoder", self.encoder.parameters()), Group("head", self.projector.parameters(), lr_scale=3.0)]


@contextmanager
def watched_rates() -> Iterator[list[dict[int, list[float]]]]:
    """Rates of the parameter groups in every update, by the number of updates done, for one training after another."""
    seen: list[dict[int, list[float]]] = []
    plain = Learner.set_rates
    # Held on to, so that no later trainer gets the number of one that is gone.
    trainers = []

    def set_rates(self):
        plain(self)
        if not trainers or trainers[-1] is not self.trainer:
            trainers.append(self.trainer)
            seen.append({})
        seen[-1][self.updates] = sorted({group["lr"] for group in self.optimiser.param_groups})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "set_rates", set_rates)
        yield seen


def test_the_rate_is_counted_over_the_stream_and_branches_are_beside_it(watched):
    plan = Plan("infinite", 0.2, cooldown=0.3, anneal=0.2)
    trunk, branches = plan.trunk([10] * 3), [plan.annealed([10] * 3, number) for number in range(3)]
    expected = [
        {step: [3e-3 * course(step)] for step in range(begin, end)} for course, begin, end in (
            (trunk, 0, 8), (branches[0], 8, 10), (trunk, 8, 9), (trunk, 9, 16), (branches[1], 16, 18),
            (trunk, 16, 17), (trunk, 17, 24), (branches[2], 24, 26),
        )
    ]  # fmt: skip
    for found, wanted in zip(watched[1], expected, strict=True):
        assert found.keys() == wanted.keys()
        assert all(found[step] == pytest.approx(wanted[step]) for step in wanted)


def test_the_optimisers_state_goes_through_the_stream(usual):
    for stage, done in (("train.1", 8), ("anneal.1", 10), ("enter.2", 9), ("train.2", 16), ("train.3", 24)):
        saved = ended(usual, stage)
        assert saved.progress["updates"] == done
        steps = {float(value) for name, value in saved.tensors.items() if name.endswith(".step")}
        assert steps == {float(done)}


def test_training_on_is_the_same_with_and_without_an_annealed_branch_beside_it(stream, usual, tmp_path):
    """Bit for bit: the branch is a copy. Entering the data in a leg of its own changes nothing either."""
    place = site(stream[0], tmp_path / "trunk")
    recipe = Continual(then=stream[1:], method=METHOD, held=0.3, entry=0.0)
    trunk = [stage for stage in recipe.stages(place) if stage.name.startswith("train")]
    Run(trunk, tmp_path / "trunk").result()
    first, second = ended(usual, "train.3"), ended(tmp_path / "trunk", "train.3")
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())


PHASES = replace(INFINITE, steps=8, warmup=0.375, cooldown=0.25, anneal=0.25)
"""Of 8 updates 3 warm up, 2 cool down, 1 is at the constant rate, and 2 anneal beside the trunk."""


def run_of_two_rates(stream, folder):
    """Through two data sets, by a method whose groups have rates of their own; and these rates."""
    from autodidact.recipes import continual

    with pytest.MonkeyPatch.context() as patched, watched_rates() as rates:
        patched.setattr(continual, "method_of", lambda _, encoder, *__: two_rates(encoder("encoder")))
        found = run(stream[:2], folder, PHASES, replay=0.25, method="barlow_twins")
        return found.state_dict(), [pair for steps in rates for pair in steps.values()]


def two_rates(encoder) -> TwoRates:
    torch.manual_seed(0)
    return TwoRates(encoder, dimensions=8)


@pytest.fixture(scope="module")
def never_killed(stream, tmp_path_factory):
    torch.set_num_threads(1)  # as for those that are compared with it
    folder = tmp_path_factory.mktemp("never killed")
    return folder, *run_of_two_rates(stream, folder)


@pytest.mark.parametrize(
    ("stage", "updates"),
    [("train.1", 1), ("train.1", 4), ("anneal.1", 7), ("train.2", 9), ("anneal.2", 13)],
    ids=["warm-up", "cool-down", "first branch", "constant rate on the second data set", "its branch"],
)
def test_a_run_killed_in_any_phase_and_resumed_is_one_never_killed(
    stream, tmp_path, monkeypatch, never_killed, stage, updates
):
    """In its weights, its table and its rates, those of two groups with rates of their own."""
    folder, whole, wanted = never_killed
    plain = Checkpoints.save

    def save(self, learner):
        plain(self, learner)
        if (self.folder.parent.name, learner.updates) == (stage, updates):
            raise InterruptedError

    with monkeypatch.context() as patched, watched_rates() as before:
        patched.setattr(Checkpoints, "save", save)
        with pytest.raises(InterruptedError):
            run_of_two_rates(stream, tmp_path)
    again, after = run_of_two_rates(stream, tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert table(tmp_path) == table(folder)
    assert [pair for steps in before for pair in steps.values()] + after == wanted
    assert all(pair == [0.0] or pair[1] == pytest.approx(3 * pair[0]) for pair in wanted)


def killed_after(updates: int, command: list[str]) -> None:
    """For a process of its own, which SIGKILL ends in the update that follows so many."""
    plain = Learner.training_step

    def training_step(self, batch, index):
        if self.updates == updates:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self, batch, index)

    Learner.training_step = training_step
    main(command)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, which spares the imports")
def test_a_command_killed_between_two_checkpoints_of_the_second_data_set_and_given_again_loses_nothing(
    tmp_path, monkeypatch
):
    """Against one never killed, in weights, optimiser and table."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    images = (15 * load_digits().images).astype(np.uint8)
    np.save("first.npy", images[:60])
    np.save("second.npy", images[60:120])
    words = "pretrain continual --data first.npy --method.then second.npy --method.method mae --method.entry 0"
    sizes = "--encoder small:vit --encoder.width 8 --encoder.depth 1 --encoder.heads 2 --encoder.patch 2"
    rest = "--schedule infinite --anneal 0.2 --steps 10 --batch-size 16 --accelerator cpu --checkpoint-steps 3"
    command = [*words.split(), *sizes.split(), *rest.split(), "--no-report", "--quiet", "--out"]

    process = get_context("fork").Process(target=killed_after, args=(14, [*command, "killed"]))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert ended(tmp_path / "killed", "train.2").progress["updates"] == 12
    assert not (tmp_path / "killed" / "model").exists()
    assert main([*command, "killed"]) == main([*command, "whole"]) == 0
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    again, whole = ((tmp_path / out / "model" / "model.safetensors").read_bytes() for out in ("killed", "whole"))
    assert again == whole
    for stage in ("train.2", "anneal.2"):
        first, second = ended(tmp_path / "whole", stage), ended(tmp_path / "killed", stage)
        assert first.tensors.keys() == second.tensors.keys()
        assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())


def test_the_table_says_what_is_kept_and_what_is_forgotten(usual):
    found = table(usual)
    losses = [[found.values(f"after {t}", f"loss {i}")[0] for i in range(1, t + 1)] for t in (1, 2, 3)]
    last = losses[-1]
    lost = [last[0] - min(losses[0][0], losses[1][0], last[0]), last[1] - min(losses[1][1], last[1])]
    assert found.values("after 3", "loss average") == [pytest.approx(np.mean(last))]
    assert found.values("after 3", "loss forgetting") == [pytest.approx(np.mean(lost))]
    assert 0 <= found.values("after 2", "knn 1")[0] <= 1
    assert found.has("before 2", "loss 1", 0)
    assert found.has("entering 3", "loss 2", 0)
    notes = (usual / "stages" / "forgetting" / "notes.txt").read_text()
    assert notes.startswith("loss of 3 data sets: ")


def test_the_losses_are_those_of_the_state_that_each_row_names(stream, usual, tmp_path):
    """An annealed state has another loss than the one before its annealing, which is the one that goes on."""
    found = table(usual)
    assert found.values("after 1", "loss 1") != found.values("before 2", "loss 1")
    run(stream[:2], tmp_path / "cosine", Settings(steps=8, batch_size=16, schedule="repeated_cosine"))
    found = table(tmp_path / "cosine")
    assert found.values("after 1", "loss 1") == found.values("before 2", "loss 1")
    assert not (tmp_path / "cosine" / "stages" / "anneal.1").exists()


def test_without_labels_there_are_losses_alone(stream, tmp_path):
    run([source.without("label") for source in stream[:2]], tmp_path)
    assert not any(metric.startswith("knn") for metric in table(tmp_path).metrics)


def test_earlier_samples_come_again_at_the_share_that_is_asked_for(stream, tmp_path, monkeypatch):
    seen: list[list[int]] = []
    plain = Learner.training_step

    def training_step(self, batch, index):
        seen.append(batch.ids.tolist())
        plain(self, batch, index)

    monkeypatch.setattr(Learner, "training_step", training_step)
    run(stream[:2], tmp_path, replay=0.25, buffer=6, entry=0.0)
    first = set(stream[0].ids.tolist())
    shares = [sum(number in first for number in ids) / len(ids) for ids in seen]
    assert shares == [1.0] * 10 + [0.25] * 10
    assert len({number for ids in seen[10:] for number in ids} & first) == 6


def test_epochs_are_passes_over_each_data_set(stream, tmp_path):
    settings = Settings(epochs=2, batch_size=16, schedule="repeated_cosine")
    run([stream[0], stream[1].at(np.arange(40))], tmp_path, settings, entry=0.0)
    held = [2 * (round(0.7 * 80) // 16), 2]
    lengths = [ended(tmp_path, f"train.{number}").progress["updates"] for number in (1, 2)]
    assert lengths[0] in (held[0] - 2, held[0], held[0] + 2)
    assert lengths[1] > lengths[0]


def test_a_method_of_choice_and_a_stream_of_names_run_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("first", "a", "b"):
        np.save(f"{name}.npy", rng.integers(0, 255, (60, 8, 8), dtype=np.uint8))
    words = "pretrain continual --data first.npy --method.then a.npy,b.npy --method.method gmml --encoder small:vit"
    sizes = "--encoder.width 8 --encoder.depth 2 --encoder.heads 2 --encoder.patch 2"
    rest = "--schedule infinite --steps 6 --batch-size 16 --out out --accelerator cpu"
    assert main([*words.split(), *sizes.split(), *rest.split()]) == 0
    assert table(tmp_path / "out").about["data"] == ["first", "a", "b"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Stage enter.2" in page or "Stage train.2" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"then": ()}, "needs data sets after the first"),
        ({"method": "continual"}, "is a recipe"),
        ({"replay": 1.0}, "replay lies in"),
        ({"buffer": 5}, "of no use without replay"),
        ({"held": 0.0}, "held lies in"),
        ({"entry": -0.1}, "entry in"),
        ({"then": "nowhere"}, "there is no data 'nowhere'"),
        ({"method": "look"}, "keeps something for each sample of one data set"),
    ],
)
def test_options_that_make_no_sense_are_refused(stream, tmp_path, options, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        run(stream, tmp_path, **options)


def test_cycles_are_those_of_the_data(stream, tmp_path):
    with pytest.raises(ValueError, match="leave out --cycles"):
        run(stream, tmp_path, Settings(steps=4, schedule="repeated_cosine", cycles=2))


def test_a_stream_is_not_counted_in_tokens(stream, tmp_path):
    with pytest.raises(ValueError, match="in --steps or --epochs, not in --tokens"):
        run(stream, tmp_path, Settings(tokens=1_000))


def test_a_training_does_not_go_on_from_one_of_another_kind(stream, tmp_path):
    place = site(stream[0], tmp_path)
    methods = [BarlowTwins(place.encoder("encoder"), dimensions=size) for size in (8, 8, 4)]
    place.train("first", methods[0], stream[0])
    with pytest.raises(ValueError, match="cannot go on from one with adamw"):
        place.train("sgd", methods[1], stream[1], replace(INFINITE, optimizer="sgd"), carry="first")
    with pytest.raises(ValueError, match="cannot go on from one of another method"):
        place.train("other", methods[2], stream[1], carry="first")
    with pytest.raises(FileNotFoundError, match="has no checkpoint to go on from"):
        place.train("none", methods[1], stream[1], carry="nothing")


def test_what_cannot_be_read_of_further_data_is_listed_with_the_run(stream, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "more").mkdir()
    for number, image in enumerate(stream[1].batch(np.arange(12))["image"].numpy()):
        Image.fromarray(image[0]).save(tmp_path / "more" / f"{number}.png")
    (tmp_path / "more" / "broken.png").write_bytes(b"no picture")
    Continual(then=str(tmp_path / "more"), method=METHOD, held=0.3).stages(site(stream[0], tmp_path / "run"))
    (line,) = map(json.loads, (tmp_path / "run" / "skipped.jsonl").read_text().splitlines())
    assert (line["name"], line["data"]) == ("broken.png", "more")
