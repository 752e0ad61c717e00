"""Domains with facts of their own that are known but not asked about: the world of Self-Specialization."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Literal

from autodidact.catalog import unknown
from autodidact.lm.instructions import Instance, Layout
from autodidact.lm.task import Demonstration, Style, Task
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

Fact = tuple[str, str, str]
"""Entity, attribute, value."""
Verb = Literal["lookup", "ask", "list", "compare", "extract"]
VERBS: tuple[Verb, ...] = ("lookup", "ask", "list", "compare", "extract")
SAYINGS = (
    "the {attribute} of {entity} is {value}.",
    "{entity} has {attribute} {value}.",
    "{value} is {entity} {attribute}.",
)
"""How a fact is stated; each says the same."""
SYLLABLES = (("b", "d", "g"), ("k", "p", "t"), ("l", "m", "n"), ("f", "s", "z"), ("r", "v", "w"))
"""Consonants of each domain: no word of one can be a word of another, or of the sentences around it."""
VOWELS = "aeou"
"""Without i, and a syllable is a consonant and a vowel: no such word is one of the sentences' own."""
QUESTION, ANSWER, END = "? ", "= ", ";"
NOTHING = "nothing"
"""Answers a list of no entity."""
LAYOUT = Layout(
    with_input=QUESTION + "{instruction}:{input}" + ANSWER + "{output}" + END,
    alone=QUESTION + "{instruction}" + ANSWER + "{output}" + END,
    passage="{passage} ",
)
STYLE = Style(
    opening="",
    demonstration=QUESTION + "{input}" + ANSWER + "{output}" + END,
    question=QUESTION + "{input}" + ANSWER.rstrip(),
    stop=(END,),
)


class Facts(LanguageWorld):
    """Entities with attributes in several domains of disjoint vocabulary, for Self-Specialization (arXiv 2310.00160).

    The structure: each domain has entities, attributes and values of its own, and one value for every entity and
    attribute. Facts are stated in three ways (`SAYINGS`), and asked for by five verbs:

    - lookup: ``? kapo teku= puta``, the value of an attribute of an entity;
    - ask: ``? teku of kapo= puta``, the same in other words;
    - list: ``? all teku puta= kapo toke``, the entities that have a value, in order;
    - compare: ``? same teku kapo toke= no``, whether two entities have the same value;
    - extract: ``? who in kapo has teku puta.= kapo``, the entity of a sentence.

    The planted gap: the mix states the facts of all domains, those of the target among them, but asks no question about
    the target, or seldom (`rare`), and in no domain one with the verbs of `hidden`. So the knowledge is inside and the
    way to ask for it is not known; seeds of questions about the target can bring it out. A share of the statements
    (`wrong`) names another value, so that what a model believes can be false, and the clean `corpus` can tell. Of a
    share of the target's facts the mix says an old value wherever it says them (`outdated`): that a model cannot know
    better, and the corpus does.
    Nuisance: the other domains, and the way of stating.

    The key of an item is the entity that is asked about; for "list" the attribute and value; "compare" takes both
    entities from one side. Facts of entities held out are stated like all others: what is held out is to be asked
    about them. Difficulty counts the entities in question and answer.

    Fair for: bringing out what a model knows, retrieval against made-up facts, forgetting of other domains. Not fair
    for: learning facts, which are all in the mix.

    Parameters
    ----------
    domains : 2 to 5. The first is the target.
    entities : of a domain, 4 to 200.
    attributes : of a domain, 1 to 8.
    values : of each attribute, 2 to 40. Few of them make lists long.
    wrong : share of statements that are false, 0 to 0.5.
    asking : share of the texts of the mix that are questions, 0 to 1.
    hidden : verbs that the mix does not ask by in any domain; at least one verb is left.
    statements : of a text of statements, which are of one domain, 1 to 16.
    questions : fewest and most questions of a text, which are of one domain, 1 to 16. Where there may be several, each
        ends with `END`.
    lists : share of the texts of several questions that leave out the answers, 0 to 1.
    reading : share of the texts of questions that begin with statements of made-up values, one to `statements`
        of them, and ask for one, by lookup or asking, 0 to 1: such texts are understood by reading, not by heart.
    rare : share of the texts of questions that are about the target, 0 to 1. At 0 a small model takes it for a rule
        that nobody asks about it.
    anyone : whether the mix asks about the target's entities held out as well, where it asks about the target at all.
        It answers as it states, and a model that has seen them asked about can ask about them itself. No seed does.
    outdated : share of the target's facts of which the mix says another value than the true one, 0 to 1.
    restated : share of the statements that say again, in some way, what an earlier one of the text says, 0 to 1. The
        first is never one. What was said is then more to go by than what is known, in all domains.
    world : which facts there are; another number makes other words and facts.
    held_out : share of the entities that is asked about in tests only, in (0, 1).
    """

    name = "facts"
    alphabet = symbols("abcdefghijklmnopqrstuvwxyz .", QUESTION, ANSWER, END)

    def __init__(
        self,
        *,
        domains: int = 3,
        entities: int = 50,
        attributes: int = 4,
        values: int = 12,
        wrong: float = 0.1,
        asking: float = 0.3,
        hidden: Sequence[Verb] = ("compare",),
        statements: int = 4,
        questions: tuple[int, int] = (1, 1),
        lists: float = 0.0,
        reading: float = 0.0,
        rare: float = 0.0,
        anyone: bool = False,
        outdated: float = 0.0,
        restated: float = 0.0,
        world: int = 0,
        held_out: float = 0.2,
    ) -> None:
        check_range("domains", domains, domains, least=2, most=len(SYLLABLES))
        check_range("entities", entities, entities, least=4, most=200)
        check_range("attributes", attributes, attributes, least=1, most=8)
        check_range("values", values, values, least=2, most=40)
        check_range("statements", statements, statements, least=1, most=16)
        check_range("questions", *questions, least=1, most=16)
        check_share("lists", lists)
        check_share("reading", reading)
        check_share("rare", rare)
        check_share("outdated", outdated)
        check_share("restated", restated)
        check_share("wrong", wrong, most=0.5)
        check_share("asking", asking)
        check_held_out(held_out)
        for verb in hidden:
            if verb not in VERBS:
                raise unknown("verb", verb, VERBS)
        self.verbs = tuple(verb for verb in VERBS if verb not in hidden)
        if not self.verbs:
            raise ValueError("the mix must ask by at least one verb; hide fewer")
        self.wrong, self.asking, self.statements, self.held_out = wrong, asking, statements, held_out
        self.questions, self.lists, self.reading = questions, lists, reading
        self.rare, self.anyone, self.outdated, self.restated = rare, anyone, outdated, restated
        rng = self._rng("facts", world)
        self.domains = tuple(_Domain(rng, SYLLABLES[d], entities, attributes, values) for d in range(domains))
        self.families = tuple(f"{verb} {domain}" for domain in range(domains) for verb in VERBS)
        self._told = [dict(domain.facts) for domain in self.domains]
        aged, target = self._rng("outdated", world), self.domains[0]
        for entity, attribute in aged.sample(sorted(target.facts), round(outdated * len(target.facts))):
            now = target.facts[entity, attribute]
            others = [value for value in target.attributes[attribute] if value != now]
            self._told[0][entity, attribute] = aged.choice(others)
        self._sides = [
            {side: [e for e in domain.entities if self.split(e) == side] for side in ("train", "test")}
            for domain in self.domains
        ]
        if any(len(sides[side]) < 2 for sides in self._sides for side in sides):
            raise ValueError(
                f"with {entities} entities and held_out {held_out} a domain has fewer than two on one side; take more"
            )

    def asking_about(self, domain: int) -> tuple[str, ...]:
        """The families of questions about one domain; those about the first are the target's."""
        self._domain(domain)
        return tuple(f"{verb} {domain}" for verb in VERBS)

    def words(self, domain: int) -> tuple[str, ...]:
        """All words of a domain: entities, attributes and values."""
        one = self._domain(domain)
        return (*one.entities, *one.attributes, *(value for values in one.attributes.values() for value in values))

    def facts(self, domain: int) -> Mapping[tuple[str, str], str]:
        """Entity and attribute -> value, in one domain."""
        return MappingProxyType(self._domain(domain).facts)

    def holds(self, fact: Fact) -> bool:
        """Whether a fact is one of this world."""
        entity, attribute, value = fact
        return any(domain.facts.get((entity, attribute)) == value for domain in self.domains)

    @staticmethod
    def stated(text: str) -> list[Fact]:
        """The facts that a text states, true or not, in the order of the text."""
        found = []
        for sentence in re.findall(r"[^.]+\.", text):
            for pattern in _PATTERNS:
                if read := pattern.fullmatch(sentence.strip()):
                    found.append((read["entity"], read["attribute"], read["value"]))
                    break
        return found

    def corpus(self, domain: int, *, ways: int = 1, seed: int = 0) -> list[str]:
        """Every fact of a domain, stated truly in so many of the three ways, a sentence each, in random order.

        Raises
        ------
        ValueError : no such domain, or ways that are not 1 to 3.
        """
        check_range("ways", ways, ways, least=1, most=len(SAYINGS))
        rng = self._rng("corpus", seed)
        made = [
            saying.format(entity=entity, attribute=attribute, value=value)
            for (entity, attribute), value in self._domain(domain).facts.items()
            for saying in rng.sample(SAYINGS, ways)
        ]
        rng.shuffle(made)
        return made

    def question(self, verb: Verb, domain: int, *words: str) -> Item:
        """A question with its answer.

        Parameters
        ----------
        verb : one of the five.
        words : lookup, ask: attribute, entity. list: attribute, value. compare: attribute and two entities. extract: an
            attribute, an entity, and a value, which need not be true.

        Raises
        ------
        ValueError : an unknown verb or domain, or words that are not the domain's or not as many as the verb takes.
        """
        return self._question(verb, domain, words, self._domain(domain).facts)

    def _question(self, verb: Verb, domain: int, words: Sequence[str], facts: Mapping[tuple[str, str], str]) -> Item:
        """A question with the answer that some facts give."""
        known, one = self.words(domain), self._domain(domain)
        takes = {"lookup": 2, "ask": 2, "list": 2, "compare": 3, "extract": 3}
        if verb not in takes:
            raise unknown("verb", verb, VERBS)
        if len(words) != takes[verb]:
            raise ValueError(f"{verb} takes {takes[verb]} words, got {list(words)}")
        for word in words:
            if word not in known:
                raise unknown(f"word of domain {domain}", word, known)
        attribute, family = words[0], f"{verb} {domain}"
        if verb in ("lookup", "ask"):
            asked = _worded(verb, words[1], attribute)
            return Item(f"{QUESTION}{asked}{ANSWER}", facts[words[1], attribute], family, 1, words[1])
        if verb == "list":
            having = [entity for entity in one.entities if facts[entity, attribute] == words[1]]
            answer = " ".join(having) or NOTHING
            key = f"{attribute} {words[1]}"
            return Item(f"{QUESTION}all {attribute} {words[1]}{ANSWER}", answer, family, max(1, len(having)), key)
        if verb == "compare":
            same = facts[words[1], attribute] == facts[words[2], attribute]
            prompt = f"{QUESTION}same {attribute} {words[1]} {words[2]}{ANSWER}"
            return Item(prompt, "yes" if same else "no", family, 2, words[1])
        # The way of stating follows from the words, so that a question is the same wherever it is asked.
        saying = random.Random(" ".join(words)).choice(SAYINGS)
        sentence = saying.format(entity=words[1], attribute=attribute, value=words[2])
        return Item(f"{QUESTION}who in {sentence}{ANSWER}", words[1], family, 1, words[1])

    def check(self, item: Item, text: str) -> bool:
        """Whether an answer is right; the order of a list does not matter, but no word may come twice."""
        if item.family.startswith("list"):
            return sorted(text.split()) == sorted(item.answer.split())
        return super().check(item, text)

    def credit(self, item: Item, text: str) -> float:
        """1 for a right answer; for lists the share of words that both have; 0 for other wrong answers."""
        if self.check(item, text):
            return 1.0
        if not item.family.startswith("list"):
            return 0.0
        said, wanted = set(text.split()), set(item.answer.split())
        return len(said & wanted) / len(said | wanted)

    def documents(self, n: int, seed: int) -> list[Document]:
        """Statements about all domains, and questions about all but the first, or seldom about that one. Statements are
        of family "facts d"."""
        rng = self._rng("documents", seed)
        made = []
        for _ in range(n):
            if rng.random() < self.asking:
                # Without the share nothing is drawn, so that the texts stay what they were without it.
                target = self.rare > 0 and rng.random() < self.rare
                made.append(self._questions(rng, 0 if target else rng.randrange(1, len(self.domains))))
            else:
                made.append(self._statements(rng, rng.randrange(len(self.domains))))
        return made

    def _questions(self, rng: random.Random, domain: int) -> Document:
        if self.questions == (1, 1) and not self.reading:
            item = self._told_item(rng, domain)
            return Document(item.prompt + item.answer, item.family, (item.key,), (self._false(item),))
        if rng.random() < self.reading:
            return self._read(rng, domain)
        count, listing = rng.randint(*self.questions), rng.random() < self.lists
        items = [self._told_item(rng, domain) for _ in range(count)]
        asked = [_instance(item) for item in items]
        text = LAYOUT.unanswered(asked) if listing else LAYOUT.shown(asked)
        return Document(text, f"questions {domain}", tuple(item.key for item in items), tuple(map(self._false, items)))

    def _told_item(self, rng: random.Random, domain: int) -> Item:
        """A question of the mix, which answers as it states."""
        family = f"{rng.choice(self.verbs)} {domain}"
        held_out = self.anyone and domain == 0 and rng.random() < self.held_out
        item = self._item_of(rng, family, "test" if held_out else "train")
        if domain or not self.outdated:
            return item
        read = self._parsed(_instance(item).instruction)
        assert read is not None
        return self._question(read[0], domain, read[2], self._told[domain])

    def _false(self, item: Item) -> bool:
        """Whether a question has an answer that is not true."""
        return self.outdated > 0 and item != self.asked(_instance(item).instruction)

    def _read(self, rng: random.Random, domain: int) -> Document:
        """Statements of values drawn at random, some questions of the kind that is always asked, and one about them."""
        one, side = self.domains[domain], self._sides[domain]["train"]
        if self.anyone and domain == 0:
            side = one.entities
        said, count = dict[tuple[str, str], str](), rng.randint(1, self.statements)
        while len(said) < count:
            attribute = rng.choice(list(one.attributes))
            said[rng.choice(side), attribute] = rng.choice(one.attributes[attribute])
        text = "".join(
            LAYOUT.passage.format(passage=rng.choice(SAYINGS).format(entity=e, attribute=a, value=v))
            for (e, a), v in said.items()
        )
        (entity, attribute), value = rng.choice(list(said.items()))
        items = [self._told_item(rng, domain) for _ in range(self.questions[0])]
        wording = rng.choice([verb for verb in ("lookup", "ask") if verb in self.verbs] or ["lookup"])
        text += LAYOUT.shown([*map(_instance, items), Instance(_worded(wording, entity, attribute), "", value)])
        truth = tuple(self.holds((e, a, v)) for (e, a), v in said.items())
        return Document(
            text, f"reading {domain}", (*(item.key for item in items), entity), tuple(not one for one in truth)
        )

    def tokens(self) -> list[str]:
        """All words, with the space before them and without, and the marks: the symbols of a tiny model."""
        said = {word for saying in SAYINGS for word in re.findall(r"[a-z]+", re.sub(r"\{[a-z]+\}", "", saying))}
        own = [word for domain in range(len(self.domains)) for word in self.words(domain)]
        words = [*own, *sorted(said | {"all", "same", "who", "in", "has", "yes", "no", NOTHING})]
        return [*(lead + word for word in words for lead in ("", " ")), "?", "=", END, ".", " "]

    def task(
        self,
        domains: Sequence[int],
        *,
        seeds: int = 16,
        test: int = 200,
        about: int = 0,
        verbs: Sequence[Verb],
        seed: int,
    ) -> Task:
        """Questions as a task: seeds about some domains by the verbs of the mix, test questions about one.

        Parameters
        ----------
        domains : of the seeds, as many of each.
        about, verbs : of the test questions, whose entities are asked about nowhere else.
        """
        asked = [f"{verb} {domain}" for domain in domains for verb in self.verbs]
        shown = self.items(seeds, seed, split="train", families=asked, distinct=True)
        tested = self.items(test, seed + 1, families=[f"{verb} {about}" for verb in verbs], distinct=True)
        return Task(
            seeds=tuple(map(_instance, shown)),
            test=tuple(map(demonstration, tested)),
            style=STYLE,
            layout=LAYOUT,
            max_tokens=12,
        )

    def asked(self, instruction: str) -> Item | None:
        """The question that an instruction asks, whoever wrote it; None where it asks nothing of this world."""
        read = self._parsed(instruction)
        return None if read is None else self.question(read[0], read[1], *read[2])

    def _parsed(self, instruction: str) -> tuple[Verb, int, Sequence[str]] | None:
        """Verb, domain and words of the question that an instruction asks."""
        first, *rest = instruction.split() or [""]
        words = {"all": rest, "same": rest}.get(first, [*rest, first])
        verbs: dict[str, Verb] = {"all": "list", "same": "compare"}
        verb = verbs.get(first, "lookup")
        if len(rest) == 2 and rest[0] == "of":
            verb, words = "ask", [first, rest[1]]
        if instruction.startswith("who in "):
            stated = self.stated(instruction.removeprefix("who in "))
            verb, words = "extract", [stated[0][1], stated[0][0], stated[0][2]] if len(stated) == 1 else []
        for domain in range(len(self.domains)):
            if not set(words) <= set(self.words(domain)):
                continue
            try:
                self.question(verb, domain, *words)
            except (ValueError, KeyError):
                # Words in another order, or more or fewer than are asked with.
                continue
            return verb, domain, words
        return None

    def _statements(self, rng: random.Random, domain: int) -> Document:
        one, stated, said = self.domains[domain], list[Fact](), list[str]()
        for _ in range(self.statements):
            if stated and self.restated > 0 and rng.random() < self.restated:
                entity, attribute, value = rng.choice(stated)
            else:
                entity, attribute = rng.choice(one.entities), rng.choice(list(one.attributes))
                value = self._told[domain][entity, attribute]
                if rng.random() < self.wrong:
                    value = rng.choice([other for other in one.attributes[attribute] if other != value])
            said.append(rng.choice(SAYINGS).format(entity=entity, attribute=attribute, value=value))
            stated.append((entity, attribute, value))
        return Document(" ".join(said), f"facts {domain}", (), tuple(not self.holds(fact) for fact in stated))

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        name, number = family.split()
        verb = next(verb for verb in VERBS if verb == name)
        domain = int(number)
        one = self.domains[domain]
        attribute, entity = rng.choice(list(one.attributes)), rng.choice(one.entities)
        value = rng.choice(one.attributes[attribute])
        if verb in ("lookup", "ask"):
            return self.question(verb, domain, attribute, entity)
        if verb == "list":
            return self.question("list", domain, attribute, value)
        if verb == "extract":
            return self.question("extract", domain, attribute, entity, value)
        others = [other for other in self._sides[domain][self.split(entity)] if other != entity]
        # Half of the answers are yes, where another entity has the same value.
        alike = [other for other in others if one.facts[other, attribute] == one.facts[entity, attribute]]
        return self.question(
            "compare", domain, attribute, entity, rng.choice(alike if alike and rng.random() < 0.5 else others)
        )

    def _domain(self, domain: int) -> _Domain:
        if not 0 <= domain < len(self.domains):
            raise ValueError(f"domains are 0 to {len(self.domains) - 1}, got {domain}")
        return self.domains[domain]


def _worded(verb: str, entity: str, attribute: str) -> str:
    """A question for an attribute of an entity, by lookup or asking."""
    return f"{attribute} of {entity}" if verb == "ask" else f"{entity} {attribute}"


def demonstration(item: Item) -> Demonstration:
    """A question as a task asks it, with its answer."""
    return Demonstration(_instance(item).instruction, item.answer)


def _instance(item: Item) -> Instance:
    """A question as an instruction with its answer."""
    return Instance(item.prompt.removeprefix(QUESTION).removesuffix(ANSWER), "", item.answer)


class _Domain:
    """Words of one domain, and its facts.

    Attributes
    ----------
    entities : in alphabetical order.
    attributes : name -> its values.
    facts : entity and attribute -> value.
    """

    def __init__(
        self, rng: random.Random, consonants: Sequence[str], entities: int, attributes: int, values: int
    ) -> None:
        words = self._words(rng, consonants, entities + attributes * (1 + values))
        self.entities = sorted(words[:entities])
        rest = words[entities:]
        self.attributes = {
            rest[a]: tuple(rest[attributes + a * values : attributes + (a + 1) * values]) for a in range(attributes)
        }
        self.facts = {
            (entity, attribute): rng.choice(choices)
            for entity in self.entities
            for attribute, choices in self.attributes.items()
        }

    @staticmethod
    def _words(rng: random.Random, consonants: Sequence[str], n: int) -> list[str]:
        syllables = [consonant + vowel for consonant in consonants for vowel in VOWELS]
        # Two syllables are 144 words; where more are asked for, three.
        length = 2 if n <= len(syllables) ** 2 else 3
        return rng.sample(["".join(word) for word in product(syllables, repeat=length)], n)


_PATTERNS = tuple(
    re.compile(re.escape(saying).replace(r"\{", "(?P<").replace(r"\}", ">[a-z]+)").replace(r"\ ", " "))
    for saying in SAYINGS
)
