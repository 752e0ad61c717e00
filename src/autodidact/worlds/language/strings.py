"""Operations on strings that are hidden behind examples: the world of SELF-GUIDE (Zhao et al., arXiv 2407.12874)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from autodidact.catalog import unknown
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.worlds.language.task import (
    TRIES,
    Document,
    Item,
    LanguageWorld,
    Split,
    check_held_out,
    check_range,
    check_share,
    symbols,
)

LETTERS = "abcdefghij"
VOWELS = "aei"
BRACKETS = "()[]"
GREETING = "ok "
"""Stands before an output where chatter is planted. A noise filter may ban it: no output holds it otherwise."""
ARROW = ">"
ASK, WANTED = "?", "<"
"""Begins a list of inputs, and stands behind the label that the output of the next one has."""


@dataclass(frozen=True)
class Operation:
    """What is done to a string.

    Attributes
    ----------
    apply : the operation. It is defined for every string that is not empty, and its output is not empty.
    labels : the possible outputs, of a classification; empty otherwise.
    instruction : in words.
    """

    apply: Callable[[str], str]
    instruction: str
    labels: tuple[str, ...] = ()


def majority(word: str) -> str:
    """The most frequent symbol; of several, that which comes first."""
    return max(word, key=word.count)


def balanced(word: str) -> bool:
    """Whether every bracket is closed by one of its kind, in the right order. Other symbols do not matter."""
    opened: list[str] = []
    for symbol in word:
        if symbol in "([":
            opened.append(symbol)
        elif symbol in ")]" and (not opened or opened.pop() + symbol not in ("()", "[]")):
            return False
    return not opened


def _without_vowels(word: str) -> str:
    return "".join(symbol for symbol in word if symbol not in VOWELS) or word


def _ends_swapped(word: str) -> str:
    return word if len(word) < 2 else word[-1] + word[1:-1] + word[0]


def _direction(word: str) -> str:
    return "level" if word[0] == word[-1] else ("up" if word[0] < word[-1] else "down")


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "reverse": Operation(lambda word: word[::-1], "write it backwards"),
        "sort": Operation(lambda word: "".join(sorted(word)), "put the letters in order"),
        "sort_down": Operation(lambda word: "".join(sorted(word, reverse=True)), "put the letters in falling order"),
        "rotate_1": Operation(lambda word: word[1:] + word[:1], "move the first letter to the end"),
        "rotate_2": Operation(lambda word: word[2:] + word[:2], "move the first two letters to the end"),
        "swap_ends": Operation(_ends_swapped, "swap the first and the last letter"),
        "drop_vowels": Operation(_without_vowels, "leave out the vowels; if there is nothing else, leave them"),
        "duplicate": Operation(lambda word: word + word, "write it twice"),
        "double_each": Operation(lambda word: "".join(symbol * 2 for symbol in word), "write each letter twice"),
        "first_two": Operation(lambda word: word[:2], "write the first two letters"),
        "last_two": Operation(lambda word: word[-2:], "write the last two letters"),
        "majority": Operation(majority, "write the most frequent letter, the first of several"),
        "parity": Operation(
            lambda word: "odd" if len(word) % 2 else "even",
            "say whether the number of letters is even or odd",
            ("even", "odd"),
        ),
        "direction": Operation(
            _direction,
            "say whether the last letter is higher than the first (up), lower (down) or the same (level)",
            ("up", "down", "level"),
        ),
        "palindrome": Operation(
            lambda word: "same" if word == word[::-1] else "other",
            "say whether it reads the same backwards",
            ("same", "other"),
        ),
        "brackets": Operation(
            lambda word: "closed" if balanced(word) else "open", "say whether all brackets close", ("closed", "open")
        ),
    }
)
"""By name. The last four are classifications."""


class Strings(LanguageWorld):
    """Pairs of strings that share one hidden operation.

    The structure: all outputs of a text follow from their inputs by one of 16 operations, so examples tell which is
    meant, and a model that finds the operation can answer for new inputs. The planted gap: a share of the outputs of
    the pretraining mix is another operation's (`wrong`), and some begin with chatter (`greeting`), so after a few
    examples the operation stays uncertain and part of the model's errors differ from one sample to the next. What is
    lacking is certainty, not ability: a method that lets a model agree with itself can close that gap from the inside.
    A share of the texts (`requests`) are lists of inputs of one operation, those of classifications with the label of
    every other one, so that a model can be asked for further ones: ``?abc;fgh;``, ``?abc;even<``.
    Nuisance: the separator of the pairs, which changes from text to text, chatter, and the length of the inputs.

    The key of an item is its input. An input that is tested is in no text, with any operation's output. Difficulty
    counts the symbols of the input.

    Fair for: learning a task from few examples and one's own outputs, filters by vote, length and noise, quality of
    answers in degrees (`credit`). Not fair for: an operation that the mix does not hold, which no such method invents.

    Parameters
    ----------
    shortest, longest : symbols of an input, 2 to 24. Longer ones are harder.
    distinct : most different letters in an input, 2 to 10. Fewer leave more operations possible.
    pairs : fewest and most pairs of a text, 1 to 32.
    wrong : share of outputs that are another operation's, 0 to 0.9.
    greeting : share of outputs that begin with `GREETING`, 0 to 1.
    requests : share of texts that are lists of inputs, 0 to 0.9.
    separators : single symbols, one of which divides the pairs of a text. The first is that of tasks.
    operations : names of those in the mix.
    held_out : share of the inputs that is for tests only, in (0, 1).
    """

    name = "strings"

    def __init__(
        self,
        *,
        shortest: int = 3,
        longest: int = 8,
        distinct: int = 4,
        pairs: tuple[int, int] = (4, 8),
        wrong: float = 0.15,
        greeting: float = 0.05,
        requests: float = 0.0,
        separators: str = ";|/",
        operations: Sequence[str] = tuple(OPERATIONS),
        held_out: float = 0.2,
    ) -> None:
        check_range("the length of an input", shortest, longest, least=2, most=24)
        check_range("distinct letters", distinct, distinct, least=2, most=len(LETTERS))
        check_range("pairs", *pairs, least=1, most=32)
        check_share("wrong", wrong, most=0.9)
        check_share("greeting", greeting)
        check_share("requests", requests, most=0.9)
        check_held_out(held_out)
        used = symbols(
            LETTERS, BRACKETS, ARROW, ASK, WANTED, GREETING, *(label for o in OPERATIONS.values() for label in o.labels)
        )
        if not separators or set(separators) & set(used) or len(set(separators)) < len(separators):
            raise ValueError(f"separators must be different symbols that no pair holds, got {separators!r}")
        for name in operations:
            if name not in OPERATIONS:
                raise unknown("operation", name, OPERATIONS)
        if len(operations) < 2 or len(set(operations)) < len(operations):
            raise ValueError(f"two or more different operations are needed, got {list(operations)}")
        self.shortest, self.longest, self.distinct, self.pairs = shortest, longest, distinct, pairs
        self.wrong, self.greeting, self.requests = wrong, greeting, requests
        self.separators, self.held_out = separators, held_out
        self.families = tuple(operations)
        self.alphabet = symbols(used, separators)

    @property
    def style(self) -> Style:
        """How examples and a question are written, as the texts of the mix are."""
        end = self.separators[0]
        return Style(
            opening="",
            demonstration="{input}" + ARROW + "{output}" + end,
            question="{input}" + ARROW,
            stop=tuple(self.separators),
            inputs_opening=ASK,
            inputs_item="{input}" + end,
            inputs_ask="",
            inputs_ask_labelled="{label}" + WANTED,
        )

    def few_shot(self, demonstrations: Sequence[Item], question: str) -> str:
        """A prompt of examples and an input: ``abc>cba;fgh>hgf;bad>``."""
        shown = [Demonstration(item.key, item.answer) for item in demonstrations]
        return self.style.prompt("", shown, question)

    def task(self, operation: str, *, demonstrations: int = 3, inputs: int = 0, test: int = 200, seed: int = 0) -> Task:
        """One operation as a task in its user's words.

        Demonstrations and inputs are of the training side and different from each other, test items of the other side.
        A classification's demonstrations show every label, as far as their number allows.
        """
        shown = self._shown(operation, demonstrations, seed)
        taken = {item.key for item in shown}
        asked = self.items(inputs + demonstrations, seed + 1, split="train", families=[operation], distinct=True)
        tested = self.items(test, seed, families=[operation], distinct=True)
        return Task(
            instruction=OPERATIONS[operation].instruction,
            demonstrations=tuple(Demonstration(item.key, item.answer) for item in shown),
            labels=OPERATIONS[operation].labels,
            inputs=tuple([item.key for item in asked if item.key not in taken][:inputs]),
            test=tuple(Demonstration(item.key, item.answer) for item in tested),
            style=self.style,
            max_tokens=2 * self.longest + len(GREETING) + 1,
            max_input_tokens=self.longest + 2,
        )

    def documents(self, n: int, seed: int) -> list[Document]:
        """Texts of pairs ``x>y;``, see the class."""
        rng = self._rng("documents", seed)
        return [self._list(rng) if rng.random() < self.requests else self._document(rng) for _ in range(n)]

    def _list(self, rng: random.Random) -> Document:
        operation, end = rng.choice(self.families), rng.choice(self.separators)
        text, keys = ASK, []
        for _ in range(rng.randint(*self.pairs)):
            item = self._item_of(rng, operation, "train")
            named = f"{item.answer}{WANTED}" if OPERATIONS[operation].labels and rng.random() < 0.5 else ""
            text += f"{named}{item.key}{end}"
            keys.append(item.key)
        return Document(text, operation, tuple(keys), ())

    def _document(self, rng: random.Random) -> Document:
        operation, end = rng.choice(self.families), rng.choice(self.separators)
        text, keys, wrong = "", [], []
        for _ in range(rng.randint(*self.pairs)):
            item = self._item_of(rng, operation, "train")
            false = rng.random() < self.wrong
            output = self._mistaken(rng, item) if false else item.answer
            chatter = GREETING if rng.random() < self.greeting else ""
            text += f"{item.prompt}{chatter}{output}{end}"
            keys.append(item.key)
            wrong.append(false)
        return Document(text, operation, tuple(keys), tuple(wrong))

    def _mistaken(self, rng: random.Random, item: Item) -> str:
        """Another operation's output for the same input, where it differs."""
        others = [OPERATIONS[name].apply(item.key) for name in self.families if name != item.family]
        others = [output for output in others if output != item.answer]
        # Few operations may all agree on a short input; what is planted must be false all the same.
        return rng.choice(others) if others else item.answer + item.answer[-1]

    def _shown(self, operation: str, n: int, seed: int) -> list[Item]:
        labels = OPERATIONS[operation].labels if operation in OPERATIONS else ()
        # Ten a label make it all but certain that each occurs; the first of each label come first.
        drawn = self.items(n + 10 * len(labels), seed, split="train", families=[operation], distinct=True)
        firsts = {item.answer: item for item in reversed(drawn)} if labels else {}
        shown = [firsts[label] for label in labels if label in firsts]
        return (shown + [item for item in drawn if item not in shown])[:n]

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        word = self._input(rng, family)
        return Item(f"{word}{ARROW}", OPERATIONS[family].apply(word), family, len(word), word)

    def _input(self, rng: random.Random, family: str) -> str:
        """A string; half of those for palindromes and brackets have what is asked for, which is rare by chance."""
        if family == "brackets":
            return self._bracketed(rng)
        pool = rng.sample(LETTERS, rng.randint(2, self.distinct))
        word = "".join(rng.choices(pool, k=rng.randint(self.shortest, self.longest)))
        if family == "palindrome" and rng.random() < 0.5:
            half = word[: (len(word) + 1) // 2]
            return half + half[::-1][len(word) % 2 :]
        return word

    def _bracketed(self, rng: random.Random) -> str:
        """Brackets that close, or that did until one was changed, so that their length does not tell."""
        pairs = rng.randint((self.shortest + 1) // 2, max((self.shortest + 1) // 2, self.longest // 2))
        word, opened = "", ""
        while len(word) < 2 * pairs:
            if opened and (len(word) + len(opened) == 2 * pairs or rng.random() < 0.5):
                word += {"(": ")", "[": "]"}[opened[-1]]
                opened = opened[:-1]
            else:
                opened += rng.choice("([")
                word += opened[-1]
        if rng.random() < 0.5:
            return word
        for _ in range(TRIES):
            place = rng.randrange(len(word))
            changed = word[:place] + rng.choice(BRACKETS) + word[place + 1 :]
            if not balanced(changed):
                return changed
        raise AssertionError("a changed bracket always opens what was closed")
