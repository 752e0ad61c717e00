"""Stems of English words, by Porter's rules: what is left of a word without its endings."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import groupby

IRREGULAR = {
    "skies": "sky",
    "sky": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}
SECOND = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "fulli": "ful",
}
THIRD = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
FOURTH = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate"),
    *("iti", "ous", "ive", "ize"),
)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of a word in lower case (Porter 1980, "An algorithm for suffix stripping").

    With the departures that the package nltk makes by default and rouge-score therefore has: a list of irregular words,
    ``fulli`` and ``logi`` among the endings, ``ies`` and ``ied`` of short words, and ``y`` after a single letter.
    Words of one or two letters stay as they are.
    """
    if word in IRREGULAR or len(word) <= 2:
        return IRREGULAR.get(word, word)
    for step in (_plural, _past, _ending_y, _second, _third, _fourth, _ending_e):
        word = step(word)
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _kinds(word: str) -> str:
    """A letter for each of the word's: v for a vowel, c for a consonant; y after a consonant is a vowel."""
    kinds = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and kinds.endswith("c"))
        kinds += "v" if vowel else "c"
    return kinds


def _measure(word: str) -> int:
    """How often vowels are followed by consonants."""
    return "".join(kind for kind, _ in groupby(_kinds(word))).count("vc")


def _short(word: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last not w, x or y; or is a vowel and a consonant."""
    kinds = _kinds(word)
    return kinds == "vc" or (kinds.endswith("cvc") and word[-1] not in "wxy")


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if re.search("[^s]s$", word) else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    left = re.sub("(ed|ing)$", "", word)
    if left == word or "v" not in _kinds(left):
        return word
    if left.endswith(("at", "bl", "iz")):
        return left + "e"
    if re.search(r"(.)\1$", left) and _kinds(left).endswith("c"):
        return left if left[-1] in "lsz" else left[:-1]
    return left + "e" if _measure(left) == 1 and _short(left) else left


def _ending_y(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and len(word) > 2 and _kinds(word)[-2] == "c" else word


def _second(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _second(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, SECOND)


def _third(word: str) -> str:
    return _replaced(word, THIRD)


def _replaced(word: str, endings: dict[str, str]) -> str:
    """With the first ending that it has replaced, where what stands before it is long enough."""
    ending = next((one for one in endings if word.endswith(one)), "")
    left = word.removesuffix(ending)
    return left + endings[ending] if ending and _measure(left) > 0 else word


def _fourth(word: str) -> str:
    ending = next((one for one in FOURTH if word.endswith(one)), "")
    left = word.removesuffix(ending)
    if not ending or _measure(left) <= 1 or (ending == "ion" and left[-1] not in "st"):
        return word
    return left


def _ending_e(word: str) -> str:
    left = word.removesuffix("e")
    count = _measure(left)
    return left if left != word and (count > 1 or (count == 1 and not _short(left))) else word
