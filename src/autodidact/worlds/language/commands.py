"""Commands in words, with and without an input, and models of which each is bad at some: the world of
Ensemble-Instruct (Lee et al., arXiv 2310.13961)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from autodidact.catalog import unknown
from autodidact.lm.instructions import Instance, Layout
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.worlds.language.strings import LETTERS, OPERATIONS
from autodidact.worlds.language.task import (
    Document,
    Item,
    LanguageWorld,
    Split,
    check_held_out,
    check_range,
    check_share,
    symbols,
)

OPENERS = ("", "please ", "now ", "kindly ")
WITH_INPUT: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "reverse": ("reverse these", "turn these around"),
        "sort": ("sort these", "put these in order"),
        "sort_down": ("sort these downwards", "put these in falling order"),
        "rotate_1": ("rotate these", "move the first of these back"),
        "swap_ends": ("swap the ends", "exchange first and last"),
        "duplicate": ("repeat these", "say these twice"),
        "double_each": ("double each", "write each twice"),
        "first_two": ("name the first two", "keep the first two"),
        "last_two": ("name the last two", "keep the last two"),
        "majority": ("find the most frequent", "name the commonest"),
    }
)
"""Operation on a list of letters -> two ways to ask for it."""
ALONE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "up": ("count from {low} to {high}", "list {low} up to {high}"),
        "down": ("return from {high} to {low}", "list {high} lower to {low}"),
    }
)
"""The same for commands that need no input."""
LISTS = {"with input": "?", "alone": "!", "any": "%"}
LAYOUT = Layout(
    posed="{instruction}: {input}",
    with_input="{instruction}: {input}> {output};",
    alone="{instruction}> {output};",
    list_with_input=LISTS["with input"],
    list_alone=LISTS["alone"],
    list_any=LISTS["any"],
    item="{instruction};",
)
STYLE = Style(opening="", demonstration="{input}> {output};", question="{input}>", stop=(";",))


class Commands(LanguageWorld):
    """Letters that are reversed, sorted or picked from as a command says, and letters that are counted up or down.

    The structure: ``please reverse these: c a b> b a c;`` and ``count from b to d> b c d;``. Each of ten operations is
    asked for in two ways, behind one of four openers, and so is each of two that need no input. The planted gap: a
    model's texts hold some operations seldom (`weak`), so that it knows how they are asked for and not what they do.
    Models with different weaknesses know together what none of them knows alone; samples of one model share its errors.
    Nuisance: paraphrases, instances without an output (`broken`), texts that mix both kinds.

    The key of an item is its instruction. One that is tested is in no text; other ways to ask for its operation are.
    Difficulty counts the letters of the input, or of the answer where there is none.

    Fair for: agreement of several models, templates, parsers, novelty of instructions. Not fair for: operations that no
    model knows.

    Parameters
    ----------
    weak : operations that are rare in the texts.
    rare : how often they occur beside each of the others, in [0, 1].
    shortest, longest : letters of an input, 2 to 8.
    items : fewest and most instances of a text, 1 to 16; a list has up to twice as many instructions.
    lists : share of the texts that are lists of instructions, 0 to 0.9.
    mixed : share of the texts that hold both kinds.
    broken : share of instances without an output.
    held_out : share of the instructions that is for tests only, in (0, 1).
    """

    name = "commands"

    def __init__(
        self,
        *,
        weak: Sequence[str] = (),
        rare: float = 0.05,
        shortest: int = 3,
        longest: int = 4,
        items: tuple[int, int] = (3, 5),
        lists: float = 0.2,
        mixed: float = 0.2,
        broken: float = 0.05,
        held_out: float = 0.25,
    ) -> None:
        check_range("shortest to longest", shortest, longest, least=2, most=8)
        check_range("items", *items, least=1, most=16)
        check_share("rare", rare)
        check_share("lists", lists, most=0.9)
        check_share("mixed", mixed)
        check_share("broken", broken, most=0.9)
        check_held_out(held_out)
        self.families = (*WITH_INPUT, *ALONE)
        for name in weak:
            if name not in self.families:
                raise unknown("operation", name, self.families)
        self.weak, self.rare = tuple(weak), rare
        self.shortest, self.longest, self.pieces = shortest, longest, items
        self.lists, self.mixed, self.broken, self.held_out = lists, mixed, broken, held_out
        said = {word for texts in (*WITH_INPUT.values(), *ALONE.values()) for text in texts for word in text.split()}
        self._words = sorted({word for word in said if "{" not in word} | {one.strip() for one in OPENERS if one})
        self.alphabet = symbols(LETTERS, " :>;", "".join(LISTS.values()), *self._words)

    def tokens(self, *, pairs: bool = False) -> list[str]:
        """The words, with the space before them and without, letters and marks: the symbols of a tiny model.

        Parameters
        ----------
        pairs : two letters that follow each other are one symbol.
        """
        words = [lead + word for word in (*self._words, *LETTERS) for lead in ("", " ")]
        both = [f" {a} {b}" for a in LETTERS for b in LETTERS] if pairs else []
        return [*words, *both, *":>;", *LISTS.values()]

    def answer(self, instruction: str, given: str = "") -> str | None:
        """The oracle: what a command with its input comes to; None where it is no command of this world."""
        for opener in OPENERS:
            if not instruction.startswith(opener):
                continue
            command = instruction.removeprefix(opener)
            letters = given.split()
            for name, ways in WITH_INPUT.items():
                if command in ways and letters and all(len(one) == 1 and one in LETTERS for one in letters):
                    return " ".join(OPERATIONS[name].apply("".join(letters)))
            if not given and (found := _counted(command)):
                return found
        return None

    def task(self, *, seeds: tuple[int, int] = (12, 8), test: int = 200, seed: int = 0) -> Task:
        """Commands as a task: seeds with an input and without one, of the training side, and test commands."""
        made = [
            self.items(count, seed, split="train", families=list(families), distinct=True)
            for count, families in zip(seeds, (WITH_INPUT, ALONE), strict=True)
        ]
        tested = self.items(test, seed + 1, distinct=True)
        return Task(
            seeds=tuple(_instance(item) for some in made for item in some),
            test=tuple(Demonstration(LAYOUT.question(_instance(item)), item.answer) for item in tested),
            style=STYLE,
            layout=LAYOUT,
            max_tokens=2 * self.longest + 4,
            max_input_tokens=self.longest + 2,
        )

    def documents(self, n: int, seed: int) -> list[Document]:
        """Texts of instances, or lists of instructions, of one kind or of both."""
        rng = self._rng("documents", seed)
        return [self._document(rng) for _ in range(n)]

    def _document(self, rng: random.Random) -> Document:
        kind = "any" if rng.random() < self.mixed else rng.choice(["with input", "with input", "alone"])
        families = {"with input": [*WITH_INPUT], "alone": [*ALONE], "any": [*self.families]}[kind]
        weights = [self.rare if name in self.weak else 1.0 for name in families]
        listing = rng.random() < self.lists
        text, keys = LISTS[kind] if listing else "", []
        fewest, most = self.pieces
        for _ in range(rng.randint(fewest, 2 * most if listing else most)):
            # A weak operation is asked for as often as any: only what it does is seldom shown.
            family = rng.choice(families) if listing else rng.choices(families, weights)[0]
            item = self._item_of(rng, family, "train")
            one = _instance(item)
            keys.append(item.key)
            if listing:
                text += LAYOUT.item.format(instruction=one.instruction)
            elif rng.random() < self.broken:
                text += LAYOUT.unanswered([one])
            else:
                text += LAYOUT.shown([one])
        return Document(text, kind, tuple(keys), ())

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        opener, way = rng.choice(OPENERS), rng.randrange(2)
        if family in ALONE:
            low, high = sorted(rng.sample(LETTERS, 2))
            command = opener + ALONE[family][way].format(low=low, high=high)
            given = ""
        else:
            command = opener + WITH_INPUT[family][way]
            given = " ".join(rng.choices(LETTERS, k=rng.randint(self.shortest, self.longest)))
        answer = self.answer(command, given)
        assert answer is not None
        prompt = f"{LAYOUT.question(Instance(command, given))}>"
        return Item(prompt, answer, family, len((given or answer).split()), command)


def _counted(command: str) -> str | None:
    """The letters that a command without an input counts."""
    words = command.split()
    ends = [word for word in words if word in LETTERS]
    for name, ways in ALONE.items():
        low, high = sorted(ends) if len(ends) == 2 else ("", "")
        if low and command in [way.format(low=low, high=high) for way in ways]:
            run = LETTERS[LETTERS.index(low) : LETTERS.index(high) + 1]
            return " ".join(run if name == "up" else run[::-1])
    return None


def _instance(item: Item) -> Instance:
    given = item.prompt.removesuffix(">").removeprefix(item.key).removeprefix(": ")
    return Instance(item.key, given, item.answer)
