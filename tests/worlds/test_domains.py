"""Garments in domains: what the dials do, and that a style is a style and the content stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.worlds.domains import DOMAINS, domains

THREE = ("noon", "dusk", "lamp")


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", progress=False)


def images(source):
    return source.batch(np.arange(len(source)))["image"].float() / 255


def test_pictures_keep_label_and_id_and_are_the_same_whenever_they_are_drawn(digits):
    few = digits.at(np.arange(60))
    once, again, other = (domains(few, THREE, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(once.ids, few.ids)
    assert np.array_equal(once.column("label"), few.column("label"))
    assert torch.equal(images(once), images(again))
    assert not torch.equal(images(once), images(other))
    assert once.schema["image"].shape == (3, 8, 8)


@pytest.mark.parametrize(("spurious", "share"), [(0.0, 1 / 3), (0.4, 0.6), (1.0, 1.0)])
def test_the_dial_sets_how_many_pictures_are_in_the_domain_of_their_class(digits, spurious, share):
    source = domains(digits, THREE, spurious=spurious, seed=0)
    in_own = np.asarray(source.column("truth_domain")) == np.asarray(source.column("label")) % 3
    assert in_own.mean() == pytest.approx(share, abs=0.03)


def test_mean_colours_tell_the_domain_and_without_strength_they_do_not(digits):
    few = digits.at(np.arange(300))
    told = {}
    for strength in (0.0, 1.0):
        source = domains(few, THREE, strength=strength, seed=0)
        colours, where = images(source).mean(dim=(2, 3)), torch.from_numpy(np.asarray(source.column("truth_domain")))
        centres = torch.stack([colours[where == domain].mean(0) for domain in range(3)])
        told[strength] = float((torch.cdist(colours, centres).argmin(1) == where).float().mean())
    assert told[1.0] > 0.95
    assert told[0.0] < 0.55


def test_low_frequency_amplitude_is_what_differs_except_in_a_sketch(digits):
    """Swapping it brings a picture nearer to how another domain shows it; of a sketch that is not true."""
    from autodidact.views import restyle

    few = digits.at(np.arange(100))
    shown = {name: images(domains(few, (name,), seed=0)) for name in DOMAINS}
    left = {}
    for name in DOMAINS:
        other = "noon" if name != "noon" else "dusk"
        swapped = restyle(shown[other], shown[name][None], torch.full((1, 100), 0.4))[0]
        before, after = ((x - shown[name]).square().mean() for x in (shown[other], swapped))
        left[name] = float(after / before)
    assert all(left[name] < 0.5 for name in (*THREE, "frost"))
    assert left["sketch"] > max(left[name] for name in (*THREE, "frost")) + 0.1


def test_what_makes_no_sense_is_refused(digits):
    with pytest.raises(ValueError, match="unknown domain 'dust'; did you mean 'dusk'"):
        domains(digits, ("dust",))
    with pytest.raises(ValueError, match="at least one domain"):
        domains(digits, ())
    with pytest.raises(ValueError, match=r"spurious and strength lie in \[0, 1\], got 1.5 and 1.0"):
        domains(digits, THREE, spurious=1.5)
    with pytest.raises(ValueError, match="has 3 channels"):
        domains(domains(digits.at(np.arange(5)), THREE), THREE)
