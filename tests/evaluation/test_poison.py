"""The scan finds images that share a pattern, names them, and keeps silent where there is none."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import binom
from torch import Tensor

from autodidact.data import ArraySource, Field, Schema, Source
from autodidact.data.arrays import array_source
from autodidact.data.source import Edited
from autodidact.evaluation.poison import (
    AT_MOST,
    CLEAN_HIGHEST,
    CLEAN_IMAGES,
    CLEAN_KINDS,
    CLEAN_SETS,
    FALSE_ALARMS,
    FOUND_HARD,
    FOUND_PLAIN,
    POISONED,
    SUSPICIOUS,
    WORST_ALARMS,
    WORST_KIND,
    WORST_SETS,
    PoisonScan,
    scan_for_poison,
)
from autodidact.measures.frequencies import (
    FIRST,
    STEPS,
    WindowScan,
    band,
    different,
    mean_frequencies,
    thumbnails,
    windows_for,
)
from autodidact.views.spectral import SpectralTrigger, inverse_dct


def scenes(count: int, side: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth shades in random colours with an edge and a little noise, as photographs have them; uint8."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1)
    edge = torch.arange(side)[None] > torch.randint(4, side - 4, (count, 1), generator=rng)
    shaded = 0.2 + 0.5 * smooth + 0.15 * edge[:, None, None] + 0.01 * torch.randn(smooth.shape, generator=rng)
    return (255 * shaded).round().clamp(0, 255).to(torch.uint8)


def source(images: Tensor, name: str = "scenes") -> Source:
    return array_source(images.numpy(), name)


def poisoned(images: Tensor, rows: list[int], trigger: SpectralTrigger) -> Tensor:
    changed = images.clone()
    changed[rows] = trigger(images[rows])
    return changed


ROWS = list(range(7, 400, 25))


def test_poisoned_images_are_found_by_name_frequency_and_magnitude():
    data = source(poisoned(scenes(400), ROWS, SpectralTrigger(50.0)))
    found = scan_for_poison(data)
    assert found.level == "poisoned"
    assert [name for _, name in found.suspicious] == [f"scenes:{row}" for row in ROWS]
    assert [id_ for id_, _ in found.suspicious] == data.ids[ROWS].tolist()
    assert {(f.plane, f.window, f.row, f.column, f.sign) for f in found.findings} == {
        (plane, 32, k, k, 1) for plane in ("chroma U", "chroma V") for k in (15, 31)
    }
    assert all(f.magnitude == pytest.approx(50, abs=5) for f in found.findings)


def test_clean_images_show_nothing():
    found = scan_for_poison(source(scenes(400)))
    assert found.level == "nothing"
    assert found.score < SUSPICIOUS
    assert found.findings == found.suspicious == ()
    assert found.sentence.startswith("No sign of poisoning at single frequencies in 400 images")


def test_a_pattern_on_all_images_alike_is_what_is_usual():
    assert scan_for_poison(source(SpectralTrigger(50.0)(scenes(400)))).level == "nothing"


def test_the_window_of_the_trigger_need_not_be_known():
    data = source(poisoned(scenes(300, 48), ROWS[:10], SpectralTrigger.scaled(80.0, 16, "chroma")))
    found = scan_for_poison(data)
    assert {f.window for f in found.findings} == {16}
    assert len(found.suspicious) == 10


def test_one_channel_is_scanned_in_its_luminance():
    data = source(poisoned(scenes(300, 28, 1), ROWS[:12], SpectralTrigger.scaled(60.0, 28, "luminance")))
    found = scan_for_poison(data)
    assert {(f.plane, f.window) for f in found.findings} == {("luminance", 28)}
    assert len(found.suspicious) == 12


def test_a_handful_of_images_is_suspicious_and_one_is_not():
    images = scenes(300)
    few = scan_for_poison(source(poisoned(images, ROWS[:8], SpectralTrigger(80.0))))
    assert few.level == "suspicious"
    assert SUSPICIOUS <= few.score < POISONED
    assert scan_for_poison(source(poisoned(images, [5], SpectralTrigger(80.0)))).level == "nothing"


def test_copies_of_one_striped_image_are_no_poison():
    images = scenes(300)
    striped = SpectralTrigger(80.0)(images[:1])
    images[50:70] = striped
    assert scan_for_poison(source(images)).level == "nothing"


def test_images_of_several_sizes_on_one_canvas_are_each_looked_at_from_their_own_corner():
    images = scenes(300, 64)
    boxes = torch.tensor([0, 0, 64, 64]).repeat(300, 1)
    small = torch.arange(0, 300, 3)
    trigger = SpectralTrigger(80.0)
    for row in small.tolist():
        inside = images[row : row + 1, :, 5:37, 9:41]
        kept = trigger(inside) if row < 90 else inside.clone()
        images[row] = 0
        images[row, :, 5:37, 9:41] = kept[0]
        boxes[row] = torch.tensor([5, 9, 32, 32])
    schema = Schema(image=Field("image", (3, 64, 64)), box=Field("box", (4,), unit="px"))
    data = ArraySource("boxed", {"image": images, "box": boxes}, schema, np.arange(300))
    found = scan_for_poison(data)
    assert [id_ for id_, _ in found.suspicious] == [row for row in small.tolist() if row < 90]


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return json.loads((Path(__file__).parents[2] / "benchmarks" / "poison.json").read_text())


def test_the_thresholds_and_how_often_they_are_wrong_are_those_of_the_benchmark(benchmark):
    assert benchmark["in use"] == {"suspicious": SUSPICIOUS, "poisoned": POISONED}
    assert benchmark["calibration"]["suspicious"] == SUSPICIOUS > benchmark["calibration"]["highest score"]
    assert benchmark["calibration"]["poisoned"] == POISONED
    clean = benchmark["clean"]
    scores = [score for of_kind in clean["scores"].values() for score in of_kind]
    assert len(scores) == clean["sets"] == CLEAN_SETS
    assert len(clean["scores"]) == clean["kinds"] == CLEAN_KINDS
    assert sum(score >= SUSPICIOUS for score in scores) == clean["false alarms"]["suspicious"] == FALSE_ALARMS
    assert max(scores) == CLEAN_HIGHEST
    counts = [count for of_kind in clean["images"].values() for count in of_kind]
    assert (min(counts), max(counts)) == CLEAN_IMAGES
    assert {kind: len(of_kind) for kind, of_kind in clean["images"].items()} == {
        kind: len(of_kind) for kind, of_kind in clean["scores"].items()
    }


def test_the_worst_kind_leaves_the_highest_rate_possible_and_is_said_beside_the_pooled_one(benchmark):
    clean, most = benchmark["clean"], {}
    for kind, scores in clean["scores"].items():
        wrong, sets = sum(score >= SUSPICIOUS for score in scores), len(scores)
        # Clopper and Pearson: the rate at which so few false alarms, or fewer, have a chance of 5 %.
        most[kind] = brentq(lambda rate, k=wrong, n=sets: binom.cdf(k, n, rate) - 0.05, 1e-9, 1 - 1e-9)
    assert most[WORST_KIND] == pytest.approx(max(most.values()))
    assert clean["at most, 95 %"]["suspicious"] == AT_MOST
    assert round(most[WORST_KIND], 4) == pytest.approx(AT_MOST)
    assert clean["worst kind"]["suspicious"] == {
        "kind": WORST_KIND,
        "false alarms": WORST_ALARMS,
        "sets": WORST_SETS,
        "at most, 95 %": AT_MOST,
    }


@pytest.mark.parametrize("kind", ["photographs, JPEG 75, 32 px", "photographs, JPEG of two qualities, 32 px"])
def test_the_scan_scores_what_the_benchmark_stored(benchmark, kind):
    """A change of the score makes the stored rates those of another scan: run the benchmark anew."""
    pytest.importorskip("skimage.data")
    if benchmark["versions"]["pillow"] != version("pillow"):
        pytest.skip("images are reduced and saved as JPEG by another Pillow")
    place = Path(__file__).parents[2] / "benchmarks" / "poison.py"
    spec = importlib.util.spec_from_file_location("poison_benchmark", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    first = module.clean_sets("report", 1)[kind][0]
    assert (first[2], first[3]) == (300, 40_000)
    stored = benchmark["clean"]["scores"][kind][0]
    assert stored > 0
    assert module.clean_score(first) == pytest.approx(stored, abs=2e-3)


def test_what_goes_unseen_is_what_the_benchmark_did_not_see(benchmark):
    counts = {False: [0, 0], True: [0, 0]}
    for trial in benchmark["poisoned"]:
        if trial["rate"] == 0.01:
            of = counts["grey" in trial["kind"] or "JPEG" in trial["kind"]]
            of[0] += round(trial["sets"] * trial["suspicious or poisoned"])
            of[1] += trial["sets"]
    assert (tuple(counts[False]), tuple(counts[True])) == (FOUND_PLAIN, FOUND_HARD)


def test_where_nothing_is_found_the_verdict_says_what_goes_unseen():
    said = PoisonScan("data", 500, 0.0, (), ()).sentence
    (plain, of), (hard, among) = FOUND_PLAIN, FOUND_HARD
    assert f"of trial sets with 1 % poison {hard} of {among} such were found, and {plain} of {of} of colour" in said


@pytest.mark.parametrize("score", [7.0, 20.0])
def test_an_alarm_says_how_often_clean_sets_raise_one_all_together_and_of_the_worst_kind(score):
    said = PoisonScan("data", 500, score, (), ((1, "a.png"),)).sentence
    assert "Of 66 clean trial sets of 11 kinds (300 to 10,000 images of 8 to 96 pixels a side) 0 scored 6" in said
    assert f"(highest score {CLEAN_HIGHEST:.1f})" in said
    assert "Of the worst kind (photographs, JPEG 75" in said
    assert f"it was {WORST_ALARMS} of 6, so few sets that its rate may be up to {100 * AT_MOST:.0f} %" in said
    assert "Sets of one kind were cut from the same pictures" in said


def test_what_is_found_is_json_with_every_image():
    found = scan_for_poison(source(poisoned(scenes(400), ROWS, SpectralTrigger(50.0))))
    plain = json.loads(json.dumps(found.plain()))
    assert plain["verdict"] == "poisoned"
    assert [entry["name"] for entry in plain["suspicious"]] == [f"scenes:{row}" for row in ROWS]
    assert {(f["row"], f["column"]) for f in plain["frequencies"]} == {(15, 15), (31, 31)}
    assert plain["sentence"] == found.sentence


def test_the_plain_words_list_frequencies_and_the_first_images():
    text = scan_for_poison(source(poisoned(scenes(400), ROWS, SpectralTrigger(50.0)))).text
    assert "16 of 400 images (4 %) stick out together" in text
    assert "chroma U, frequency (15, 15) of 32 x 32 windows: 16 images" in text
    assert "  scenes:7\n" in text
    assert "... 8 more images" in text


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (scenes(99), "has 99 images of 8 pixels a side or more"),
        (scenes(120)[..., :7, :7], "has 0 images of 8 pixels"),
        (scenes(120, 32, 4), "1 or 3 channels, 'scenes' has 4"),
    ],
)
def test_what_cannot_be_scanned_is_said(images, said):
    with pytest.raises(ValueError, match=said):
        scan_for_poison(source(images))


def test_a_stream_is_refused(monkeypatch):
    data = source(scenes(120))
    monkeypatch.setattr(type(data), "streaming", True)
    with pytest.raises(ValueError, match="is a stream"):
        scan_for_poison(data)


def test_labels_are_never_read():
    class Guarded(Edited):
        def column(self, field: str) -> np.ndarray:
            raise AssertionError("a label was read")

    scan_for_poison(Guarded(source(scenes(120)), "image", lambda x: x))


def test_a_repeated_pattern_adds_up_over_windows_and_noise_does_not(generator):
    noise = 0.5 + 0.02 * torch.randn(200, 1, 64, 64, generator=generator)
    assert float(mean_frequencies(noise, 16)[..., 7, 7].std()) == pytest.approx(0.02 * 255, rel=0.2)
    trigger = SpectralTrigger(10.0, 16, ((7, 7),), "luminance")
    gained = mean_frequencies(trigger(noise), 16) - mean_frequencies(noise, 16)
    assert float(gained[..., 7, 7].mean()) == pytest.approx(10.0 * 4, rel=1e-3)


def test_counts_beyond_each_step_are_those_of_a_plain_loop():
    images = scenes(60, 16)
    frequencies = mean_frequencies(images, 16)
    scan = WindowScan(frequencies, 16)
    scan.update(images[:25], torch.arange(25))
    scan.update(images[25:], torch.arange(25, 60))
    middle = frequencies.median(0).values
    z = (frequencies - middle) / ((frequencies - middle).abs().median(0).values * 1.4826).clamp(min=0.5)
    for cell in ((0, 3, 7), (1, 15, 15), (2, 8, 2)):
        plane, row, column = cell
        beyond = torch.zeros(2, len(STEPS))
        for n in range(60):
            near = [
                float(z[n, plane, _mirror(row + i, 16), _mirror(column + j, 16)].abs())
                for i in range(-2, 3)
                for j in range(-2, 3)
                if (i, j) != (0, 0)
            ]
            t = float(z[n, plane, row, column]) / max(1.0, sum(near) / 24)
            for index, step in enumerate(STEPS):
                beyond[0, index] += t > step
                beyond[1, index] += t < -step
        assert torch.equal(scan.counts[:, :, plane, row, column], beyond.T)


def _mirror(index: int, side: int) -> int:
    return -index if index < 0 else 2 * (side - 1) - index if index >= side else index


def test_what_is_expected_is_the_largest_of_the_other_side_the_neighbours_and_the_gap_below():
    images = poisoned(scenes(80, 16), ROWS[:3], SpectralTrigger.scaled(80.0, 16, "chroma"))
    scan = WindowScan(mean_frequencies(images, 16), 16)
    scan.update(images, torch.arange(80))
    counts, expected = scan.counts.tolist(), scan.expected()
    largest = set()
    for plane, row, column in ((0, 0, 9), (1, 6, 3), (1, 7, 7)):
        for index in range(FIRST, len(STEPS)):
            near = [
                counts[index][side][plane][_mirror(row + i, 16)][_mirror(column + j, 16)]
                for side in (0, 1)
                for i in range(-3, 4)
                for j in range(-3, 4)
                if (i, j) != (0, 0)
            ]
            for side in (0, 1):
                # Steps grow by the root of 2: half of one lies two below it.
                here = [counts[step][side][plane][row][column] for step in (index - 2, index)]
                three = {
                    "other side": counts[index][1 - side][plane][row][column],
                    "neighbours": sum(near) / 96,
                    "gap": here[0] - here[1],
                }
                found = float(expected[index - FIRST, side, plane, row, column])
                assert found == pytest.approx(max(three.values()), abs=1e-4)
                best = sorted(three, key=three.__getitem__)
                if three[best[-1]] > three[best[-2]] + 0.01:
                    largest.add(best[-1])
    assert largest == {"other side", "neighbours", "gap"}


@pytest.mark.parametrize(("window", "left"), [(8, 2), (16, 4), (28, 7), (10, 3)])
def test_frequencies_below_a_quarter_in_both_directions_are_left_aside(window, left):
    seen = [[row >= left or column >= left for column in range(window)] for row in range(window)]
    assert band(window).tolist() == seen


def lopsided(count: int, **shares: float) -> tuple[WindowScan, Tensor]:
    """A scan of noise of which shares of the images, `low` and `high`, lie far to one side at frequency (5, 5), and as
    many again far to the other at (1, 1); with thumbnails that are no copies."""
    rng = torch.Generator().manual_seed(0)
    frequencies = 2 * torch.randn(count, 1, 1, 1, 8, 8, generator=rng)
    high, low = (int(count * shares[side]) for side in ("high", "low"))
    frequencies[:high, ..., 5, 5] = 40.0
    frequencies[high : high + low, ..., 5, 5] = -40.0
    frequencies[:high, ..., 1, 1] = -40.0
    images = (inverse_dct(frequencies) + 128) / 255
    scan = WindowScan(mean_frequencies(images, 8), 8)
    scan.update(images, torch.arange(count))
    return scan, torch.nn.functional.normalize(torch.randn(count, 256, generator=rng), dim=1)


def test_what_content_does_to_one_side_does_not_weigh_more_the_more_images_there_are():
    scores = []
    for count in (1_000, 16_000):
        scan, small = lopsided(count, high=0.1, low=0.05)
        (found,) = scan.findings(1.5, small)
        assert (found.row, found.column, found.sign) == (5, 5, 1)
        more = len(found.images) - found.expected
        assert more == pytest.approx(0.05 * count, rel=0.05)
        assert found.score == pytest.approx(more / (found.expected + 1 + (found.expected / 4) ** 2) ** 0.5, abs=1e-4)
        scores.append(found.score)
    # By chance alone the second would be 4 times the first.
    assert scores[0] < scores[1] < 1.2 * scores[0] < SUSPICIOUS


def test_a_pattern_in_few_images_weighs_what_it_did():
    scan, small = lopsided(1_000, high=0.02, low=0.0)
    (found,) = scan.findings(1.5, small)
    assert (found.expected, found.score) == (0, 20)


def test_copies_count_once_and_different_images_each():
    rows = thumbnails(torch.cat([scenes(5), scenes(5)]))
    assert different(rows) == 5
    assert different(thumbnails(scenes(30))) == 30


@pytest.mark.parametrize(
    ("shape", "sides"),
    [((32, 32), (32, 16, 8)), ((28, 40), (28, 16, 8)), ((300, 400), (64, 32, 16, 8)), ((8, 8), (8,)), ((7, 9), ())],
)
def test_windows_are_the_usual_sizes_and_the_whole_of_small_images(shape, sides):
    assert windows_for(*shape) == sides
