"""Real text with known answers: the docstrings of the packages that are installed, and questions about their calls."""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from autodidact.catalog import unknown
from autodidact.lm.instructions import Instance
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.worlds.language.task import Document, Item, LanguageWorld, Split, check_held_out, check_share, symbols

Asking = Literal["module", "arguments", "exists"]
ASKINGS: tuple[Asking, ...] = ("module", "arguments", "exists")
STANDARD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "data": ("json", "csv", "pickle", "copy", "heapq", "bisect", "collections", "configparser", "sqlite3"),
        "text": ("re", "string", "textwrap", "difflib", "unicodedata", "html", "shlex", "codecs", "locale"),
        "numbers": ("math", "cmath", "statistics", "random", "fractions", "decimal", "operator", "itertools"),
        "files": ("os.path", "shutil", "tempfile", "glob", "fnmatch", "pathlib", "zipfile", "tarfile", "gzip"),
    }
)
"""Domains of the standard library -> their modules."""
SCIPY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "analysis": ("scipy.integrate", "scipy.interpolate", "scipy.optimize", "scipy.fft"),
        "signals": ("scipy.signal", "scipy.ndimage", "scipy.linalg"),
        "statistics": ("scipy.stats", "scipy.cluster.vq", "scipy.spatial.distance"),
    }
)
"""The same of SciPy, where that is installed: ``Docstrings({**STANDARD, **SCIPY})``."""
WORDS = 60
"""Words of a docstring that a passage has, at most."""
QUESTIONS: Mapping[Asking, re.Pattern[str]] = MappingProxyType(
    {
        "module": re.compile(r"Which module does (?P<call>\w+) belong to\?"),
        "arguments": re.compile(r"What are the arguments of (?P<module>[\w.]+)\.(?P<call>\w+)\?"),
        "exists": re.compile(r"Does (?P<module>[\w.]+) have a call (?P<call>\w+)\?"),
    }
)
NONE = "none"
"""The arguments of a call that takes none."""
QUESTION, ANSWER, END = "Instruction: ", "\nOutput: ", "\n\n"
STYLE = Style(
    opening="",
    demonstration=QUESTION + "{input}" + ANSWER + "{output}" + END,
    question=QUESTION + "{input}" + ANSWER.rstrip(" "),
)
"""As the default layout writes an instruction that needs no input."""


@dataclass(frozen=True)
class Call:
    """A public function or class of a module, as its docstring tells of it.

    Attributes
    ----------
    arguments : names of the parameters in their order, without stars; None where the interpreter does not tell.
    text : the docstring's first paragraph, on one line, at most `WORDS` words.
    """

    module: str
    name: str
    arguments: tuple[str, ...] | None
    text: str

    @property
    def stated(self) -> str:
        """What the corpus says of it."""
        head = f"{self.module}.{self.name}"
        return (
            f"{head}({', '.join(self.arguments)}): {self.text}"
            if self.arguments is not None
            else f"{head}: {self.text}"
        )


class Docstrings(LanguageWorld):
    """Docstrings by domain, with questions whose answers the interpreter knows (world B of Self-Specialization).

    The structure: a domain is some modules; of each, every public function and class with a docstring is one call, in
    the module that defines it, or in the first that offers it. Three questions have free labels:

    - module: ``Which module does heappush belong to?`` ``heapq``; only of names that one module of the world has;
    - arguments: ``What are the arguments of heapq.heappush?`` ``heap, item``; only where the interpreter tells;
    - exists: ``Does heapq have a call heappush?`` ``yes``; half of them name a call of another module of the domain.

    The mix states the calls of all domains and asks about all but the first, as in `Facts`; seeds of the first can
    bring out what a model has read. A model of the hub has read all this and more, whatever the mix.

    The key of an item is the name of the call. Difficulty counts the arguments where they are asked for, else it is 1.

    Fair for: methods on real text whose answers can be checked, by a pretrained model. Not fair for: models of a few
    thousand weights, to which a name of a call is a word seen once; comparing figures between versions of Python or of
    the packages, whose docstrings differ; finding out whether a model has learned a call here or long before.

    Modules are imported, which runs them: name none that you would not import.

    Parameters
    ----------
    domains : two or more domains with two or more modules each, the first of them the target. Default the standard
        library (`STANDARD`).
    asking : share of the texts of the mix that are questions, 0 to 1.
    held_out : share of the names that is asked about in tests only, in (0, 1).

    Raises
    ------
    ValueError : fewer than two domains, a module that is not installed, or a domain with too few calls to ask about.
    """

    name = "docstrings"

    def __init__(
        self,
        domains: Mapping[str, Sequence[str]] = STANDARD,
        *,
        asking: float = 0.3,
        held_out: float = 0.3,
    ) -> None:
        check_share("asking", asking)
        check_held_out(held_out)
        if len(domains) < 2:
            raise ValueError(f"two or more domains are needed, the first of them the target; got {list(domains)}")
        self.asking, self.held_out = asking, held_out
        self.domains = tuple(domains)
        self._modules = {domain: tuple(modules) for domain, modules in domains.items()}
        taken: set[int] = set()
        self._calls = {
            domain: tuple(call for module in modules for call in _calls(module, taken))
            for domain, modules in self._modules.items()
        }
        self._of = {(call.module, call.name): call for calls in self._calls.values() for call in calls}
        homes: dict[str, set[str]] = {}
        for module, name in self._of:
            homes.setdefault(name, set()).add(module)
        self._home = {name: next(iter(modules)) for name, modules in homes.items() if len(modules) == 1}
        self.families = tuple(f"{asked} {domain}" for domain in domains for asked in ASKINGS)
        self._askable = {family: self._asked_of(family) for family in self.families}
        for domain, calls in self._calls.items():
            sides = {self.split(call.name) for call in calls if call.name in self._home}
            if len(self._modules[domain]) < 2 or len(sides) < 2:
                raise ValueError(
                    f"domain '{domain}' needs two or more modules and calls on both sides of the split; "
                    f"{', '.join(self._modules[domain]) or 'no module'} gave {len(calls)}"
                )
        stated = (call.stated for calls in self._calls.values() for call in calls)
        asked = "Which module does belong to? What are the arguments of. Does have a call "
        self.alphabet = symbols(*stated, asked, QUESTION, ANSWER, END, NONE, "yes no", ", _")

    def calls(self, domain: str) -> tuple[Call, ...]:
        """The calls of a domain, in the order of its modules and of their names."""
        if domain not in self._calls:
            raise unknown("domain", domain, self.domains)
        return self._calls[domain]

    def corpus(self, domain: str) -> list[str]:
        """A passage a call: its module, name and arguments, and what the docstring begins with."""
        return [call.stated for call in self.calls(domain)]

    def question(self, asked: Asking, call: Call, module: str | None = None) -> Item:
        """A question about a call with its answer.

        Parameters
        ----------
        module : that the call is said to be in, for "exists"; default its own.

        Raises
        ------
        ValueError : an unknown question, or one that cannot be asked about this call.
        """
        if asked not in ASKINGS:
            raise unknown("question", asked, ASKINGS)
        place = module or call.module if asked == "exists" else call.module
        family = f"{asked} {self._domain_of(place)}"
        if asked == "module":
            if self._home.get(call.name) != call.module:
                raise ValueError(f"several modules have a call {call.name}")
            return self._item_that(f"Which module does {call.name} belong to?", call.module, family, 1, call.name)
        if asked == "arguments":
            if call.arguments is None:
                raise ValueError(f"the interpreter does not tell the arguments of {call.module}.{call.name}")
            said = ", ".join(call.arguments) or NONE
            text = f"What are the arguments of {call.module}.{call.name}?"
            return self._item_that(text, said, family, max(1, len(call.arguments)), call.name)
        answer = "yes" if (place, call.name) in self._of else "no"
        return self._item_that(f"Does {place} have a call {call.name}?", answer, family, 1, call.name)

    def asked(self, instruction: str) -> Item | None:
        """The question that an instruction asks, whoever wrote it; None where it is none about this world's calls."""
        for asked, pattern in QUESTIONS.items():
            if not (read := pattern.fullmatch(instruction.strip())):
                continue
            found = read.groupdict()
            module = found.get("module") or self._home.get(found["call"], "")
            call = self._of.get((module, found["call"]))
            if call is None and asked == "exists" and any(module in one for one in self._modules.values()):
                # A call that nobody has: nothing but the name is needed to ask for it.
                call = Call(self._home.get(found["call"], module), found["call"], None, "")
            if call is None or (asked == "arguments" and call.arguments is None):
                return None
            return self.question(asked, call, module)
        return None

    def documents(self, n: int, seed: int) -> list[Document]:
        """Statements about the calls of all domains, of family "calls DOMAIN"; questions about all but the first."""
        rng = self._rng("documents", seed)
        made = []
        for _ in range(n):
            if rng.random() < self.asking:
                family = rng.choice([one for one in self.families if not one.endswith(f" {self.domains[0]}")])
                item = self._item_of(rng, family, "train")
                made.append(Document(item.prompt + item.answer, item.family, (item.key,), (False,)))
            else:
                domain = rng.choice(self.domains)
                made.append(Document(rng.choice(self._calls[domain]).stated, f"calls {domain}", (), (False,)))
        return made

    def task(self, domain: str, *, seeds: int = 40, test: int = 200, about: str = "", seed: int = 0) -> Task:
        """Questions as a task: seeds about a domain of all three kinds, and test questions about calls held out.

        Parameters
        ----------
        domain : of the seeds.
        seeds, test : how many, from 1; `items` says where there are not as many.
        about : domain of the test questions; default that of the seeds.
        """
        self.calls(domain)
        self.calls(about or domain)
        shown = self.items(seeds, seed, split="train", families=[f"{one} {domain}" for one in ASKINGS], distinct=True)
        tested = self.items(test, seed + 1, families=[f"{one} {about or domain}" for one in ASKINGS], distinct=True)
        return Task(
            seeds=tuple(map(_instance, shown)),
            test=tuple(Demonstration(_instance(item).instruction, item.answer) for item in tested),
            style=STYLE,
            max_tokens=64,
        )

    def write(self, folder: str | Path, *, seeds: int = 40, test: int = 200, seed: int = 0) -> list[Path]:
        """Write for each domain a task file, its seeds and test questions, and its corpus: what `improve` takes.

        Returns
        -------
        list
            The task files ``DOMAIN.yaml``. Beside each: ``DOMAIN.seeds.jsonl``, ``DOMAIN.test.jsonl``, and
            ``DOMAIN.txt``, the passages.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        made = []
        for domain in self.domains:
            task = self.task(domain, seeds=seeds, test=test, seed=seed)
            shown = [{"instruction": one.instruction, "output": one.output} for one in task.seeds]
            tested = [{"input": one.input, "output": one.output} for one in task.test]
            for name, rows in (("seeds", shown), ("test", tested)):
                lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
                (folder / f"{domain}.{name}.jsonl").write_text("".join(lines), encoding="utf-8")
            (folder / f"{domain}.txt").write_text("\n".join(self.corpus(domain)) + "\n", encoding="utf-8")
            entries = {
                "seeds": f"{domain}.seeds.jsonl",
                "test": f"{domain}.test.jsonl",
                "max_tokens": task.max_tokens,
                "style": {name: getattr(STYLE, name) for name in ("opening", "demonstration", "question")},
            }
            made.append(folder / f"{domain}.yaml")
            made[-1].write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")
        return made

    def check(self, item: Item, text: str) -> bool:
        """Whether an answer is right; blanks between arguments do not matter, their order does."""
        said, wanted = (re.sub(r" *, *", ", ", one.strip()) for one in (text, item.answer))
        return said == wanted

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        asked, domain = family.split(" ", 1)
        call = rng.choice(self._askable[family])
        if asked != "exists":
            return self.question(asked, call)  # type: ignore[arg-type]
        others = [one for one in self._modules[domain] if (one, call.name) not in self._of]
        return self.question("exists", call, rng.choice(others) if others and rng.random() < 0.5 else None)

    def _asked_of(self, family: str) -> list[Call]:
        """The calls that a family asks about."""
        asked, domain = family.split(" ", 1)
        if asked == "arguments":
            return [call for call in self._calls[domain] if call.arguments is not None]
        return [call for call in self._calls[domain] if call.name in self._home]

    def _domain_of(self, module: str) -> str:
        return next(domain for domain, modules in self._modules.items() if module in modules)

    @staticmethod
    def _item_that(text: str, answer: str, family: str, difficulty: int, key: str) -> Item:
        return Item(f"{QUESTION}{text}{ANSWER}", answer, family, difficulty, key)


def _instance(item: Item) -> Instance:
    """A question as an instruction with its answer."""
    return Instance(item.prompt.removeprefix(QUESTION).removesuffix(ANSWER), "", item.answer)


def _calls(module: str, taken: set[int]) -> list[Call]:
    """The public functions and classes of a module, by name, that are not another's and not taken yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = importlib.import_module(module)
    except ImportError as missing:
        raise ValueError(f"no module '{module}' here ({missing}); install it, or leave it out") from missing
    names = sorted(getattr(found, "__all__", None) or [name for name in vars(found) if not name.startswith("_")])
    package = module.partition(".")[0]
    made = []
    for name in names:
        one = getattr(found, name, None)
        if not (inspect.isroutine(one) or inspect.isclass(one)) or id(one) in taken or name.startswith("_"):
            continue
        # What a module merely imports is no call of it; an accelerated half has the name of a hidden module.
        home = (getattr(one, "__module__", None) or module).lstrip("_")
        if not hasattr(found, "__all__") and home.partition(".")[0] != package.lstrip("_"):
            continue
        own = one.__dict__.get("__doc__") if inspect.isclass(one) else one.__doc__
        text = " ".join((inspect.cleandoc(own) if isinstance(own, str) else "").split("\n\n")[0].split()[:WORDS])
        if text:
            taken.add(id(one))
            made.append(Call(module, name, _arguments(one), text))
    return made


def _arguments(one: Any) -> tuple[str, ...] | None:
    try:
        return tuple(inspect.signature(one).parameters)
    except (ValueError, TypeError):
        return None
