"""Stems, and the overlap of words by their stems: what the packages nltk and rouge-score say."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from autodidact.selection import rouge_l, stem

# What nltk 3.10.4 gives; the whole list of 136,384 words that was compared is the same.
STEMS = {
    "caresses": "caress",
    "ponies": "poni",
    "ties": "tie",
    "flies": "fli",
    "died": "die",
    "tried": "tri",
    "feed": "feed",
    "agreed": "agre",
    "hopping": "hop",
    "hoping": "hope",
    "falling": "fall",
    "conflated": "conflat",
    "sized": "size",
    "happy": "happi",
    "enjoy": "enjoy",
    "by": "by",
    "dry": "dri",
    "relational": "relat",
    "generalizations": "gener",
    "oscillators": "oscil",
    "typically": "typic",
    "analogical": "analog",
    "apology": "apolog",
    "joyfully": "joy",
    "replacement": "replac",
    "adoption": "adopt",
    "sky": "sky",
    "dying": "die",
    "news": "news",
    "controlling": "control",
    "cease": "ceas",
    "ate": "ate",
    "is": "is",
}
WORDS = [
    *("the", "a", "of", "in", "running", "runs", "ran", "connection"),
    *("connected", "relational", "hopping", "hoped", "flies", "skies", "happily", "happiness"),
    *("national", "nationalities", "organizations", "organized", "triplicate", "formalize", "electrical", "adjustment"),
    *("adoption", "activate", "probate", "controlling", "rolls", "argued", "feed", "agreed"),
    *("tanned", "filing", "sized", "falling", "generalizations", "oscillators"),
]


def test_stems_are_those_of_nltk() -> None:
    assert {word: stem(word) for word in STEMS} == STEMS


@pytest.mark.parametrize(
    ("stemmed", "mean", "digest"),
    [(False, 0.10952797254569428, "7cf3110b08ab1b3d"), (True, 0.12397219462609224, "5e526b1b52d030e3")],
)
def test_rouge_of_a_thousand_pairs_is_that_of_rouge_score(stemmed: bool, mean: float, digest: str) -> None:
    # Mean and digest were recorded from rouge-score 0.1.2 with and without its stemmer.
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12)))

    check(text, stemmed, mean, digest)


def check(text: Callable[[], str], stemmed: bool, mean: float, digest: str) -> None:
    """Compare a thousand pairs of texts by the mean and the digest of their values."""
    values = [rouge_l(text(), text(), stemmed=stemmed) for _ in range(1000)]
    assert sum(values) / 1000 == pytest.approx(mean, abs=1e-12)
    assert hashlib.sha256(" ".join(f"{value:.9f}" for value in values).encode()).hexdigest()[:16] == digest


WRITTEN = [
    *("The", "U.S.", "NASA's", "don't", "It's", "RUNNING", "Connections", "re-organized", "snake_case", "__init__"),
    *("3,500", "3.5", "42nd", "1990s", "B2B", "x86-64", "$100", "50%", "10:30", "2nd"),
    *("(hopping)", '"falling"', "e.g.", "and/or", "...", "?!", "--", "hello@example.com", "#1", "O'Neill"),
    *("the", "a", "of", "runs", "connected", "organizations", "3", "500", "5", "its"),
]


@pytest.mark.parametrize(
    ("stemmed", "mean", "digest"),
    [(False, 0.12084812526718709, "721dca9b382fdca5"), (True, 0.12910040891590793, "f6533f3775de93f2")],
)
def test_rouge_of_capitals_digits_and_punctuation_is_that_of_rouge_score(
    stemmed: bool, mean: float, digest: str
) -> None:
    # Recorded as above, from the same version.
    rng = random.Random(1)

    def text() -> str:
        words = [rng.choice(WRITTEN) for _ in range(rng.randint(1, 12))]
        between = rng.choice([" ", "  ", "\n", ", "])
        return between.join(rng.choice([str, str.upper, str.lower, str.title])(word) for word in words)

    check(text, stemmed, mean, digest)
