"""Sums that are rated: a world for judges that learn to do without the right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autodidact.lm.judging import DIGITS, JudgeForm
from autodidact.lm.task import Demonstration, Task
from autodidact.worlds.language.arithmetic import RULES, ModularSums
from autodidact.worlds.language.task import Document, Item, check_share, symbols

REFERENCE, RATED = "|", ":"
"""Behind a right answer that stands before what is rated; before a rating."""


class RatedSums(ModularSums):
    """Chains of one operation with their traces, and ratings of traces beside a right one.

    The structure: ``4-9=5>5|4-9?[4][5]>05:9``: a right answer, then a question with an answer that is rated from 0 to 9
    by its `credit`. The planted gap: ratings are known only beside a right answer, and a share of them is drawn at
    random (`noise`), so that a judge with the right answer is better than chance and imperfect, and one without it
    knows nothing. What it would need is known from the traces of the mix: how numbers are reckoned. Confidence
    misleads: "#" is taught falsely without noise, so the surest and most unanimous answers are wrong; what is rated of
    it is right as often as of the others, so that no rating tells on it. Nuisance: style, zeros and the order of the
    numbers change how likely and how similar an answer is, and not how good.

    Fair for: judges, selective answering, the choice among answers. Not fair for: quality that is not of right and
    wrong steps.

    Parameters
    ----------
    rated : share of the texts of the mix that are ratings, 0 to 0.9.
    noise : share of ratings that are drawn at random, 0 to 1.
    modulus, fewest, most, wrong, zeros, exchange, families, held_out : see `ModularSums`.
    """

    name = "rated sums"

    def __init__(
        self,
        *,
        rated: float = 0.4,
        noise: float = 0.2,
        modulus: int = 10,
        fewest: int = 3,
        most: int = 4,
        wrong: float = 0.4,
        zeros: int = 1,
        exchange: float = 0.5,
        families: Sequence[str] = tuple(RULES),
        held_out: float = 0.2,
    ) -> None:
        super().__init__(
            modulus=modulus,
            fewest=fewest,
            most=most,
            wrong=wrong,
            zeros=zeros,
            exchange=exchange,
            families=families,
            held_out=held_out,
        )
        check_share("rated", rated, most=0.9)
        check_share("noise", noise)
        self.rated, self.noise = rated, noise
        self.alphabet = symbols(self.alphabet, REFERENCE, RATED)

    @property
    def form(self) -> JudgeForm:
        """How answers are put before a judge, as the texts of the mix are."""
        return JudgeForm(
            rating="{input}{answer}" + RATED, referenced="{reference}" + REFERENCE + "{input}{answer}" + RATED
        )

    def documents(self, n: int, seed: int) -> list[Document]:
        """Chains with their traces, and ratings; what is rated is wrong as often as the traces are."""
        plain = super().documents(n, seed)
        rng = self._rng("ratings", seed)
        made = []
        for document in plain:
            if rng.random() >= self.rated:
                made.append(document)
                continue
            item = self._item_of(rng, document.family, "train")
            # "#" is rated as it is, and as often wrong as the others, so that ratings do not tell on it.
            said = self.trace(item, rng, wrong=rng.random() < self.wrong)
            rating = rng.choice(DIGITS) if rng.random() < self.noise else DIGITS[self.rating(item, said)]
            text = self.form.rated("", item.prompt, said, self.trace(item, rng)) + rating
            made.append(Document(text, item.family, (item.key,), (not self.check(item, said),)))
        return made

    def rating(self, item: Item, said: str) -> int:
        """How good an answer is, from 0 to 9."""
        return round(9 * self.credit(item, said))

    def judging(self, items: Sequence[Item], seed: int) -> Task:
        """Items as a task with right traces as good answers, and with the form in which the mix is rated."""
        rng = self._rng("judging", seed)
        rows = tuple(Demonstration(item.prompt, self.trace(item, rng)) for item in items)
        task = self.task(test=1, seed=seed, families=self.families)
        # Items of either side may be judged: those asked for are all that there are.
        return replace(task, examples=rows, test=(), judge=self.form)
