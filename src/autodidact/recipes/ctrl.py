"""CTRL: how far a few images poisoned at two frequencies would take over a self-supervised training of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from autodidact.catalog import Card, unknown
from autodidact.data.schema import Field, Kind
from autodidact.data.source import Edited, Positions, Source
from autodidact.data.splits import split, uniform
from autodidact.data.store import Store
from autodidact.encoders.image import ImageEncoder
from autodidact.evaluation.attack import Change, Victim, at_size
from autodidact.evaluation.table import Table
from autodidact.methods.method import Method
from autodidact.model import Model
from autodidact.recipes.names import MethodSpec, method_of, named_method
from autodidact.recipes.stages import Recipe, Site, Stage, training
from autodidact.training.processes import first_process
from autodidact.views.defence import DEFENCES, Defence, defended
from autodidact.views.spectral import Plane, SpectralTrigger, kept_energy

CARD = Card(
    name="ctrl",
    target="CTRL",
    kind="recipe",
    number=7,
    title="CTRL audit",
    paper="Li et al.: An Embarrassingly Simple Backdoor Attack on Self-supervised Learning (2210.07346, 2022)",
    summary="Trains a method twice, once on a copy with 1 % poisoned images, and tells how far the trigger takes over.",
    needs=(("image", "image"), ("label", "label")),
    arguments=("method", "target", "rate", "magnitude", "defences"),
    claim="ctrl",
    encoder="small:convnet",
)

TEST_SHARE = 0.2
"""Share of every class on which the attack is measured."""
LEAST_WINDOW, LARGEST_WINDOW = 4, 32
"""Sides of the trigger's windows in pixels."""
AT_ONCE = 256
"""Poisoned images that are looked at together."""
METRICS = ("accuracy", "attack success")


class CTRL(Recipe):
    """An audit by the attack of CTRL (arXiv 2210.07346): clean-label poisoning with a trigger in the frequencies.

    A small share of the training images, all of one class, gets a faint pattern (`SpectralTrigger`) in a copy of the
    data; the files stay as they are. The method is trained on the clean data and on the poisoned copy, never seeing a
    label. Then the trigger is put on test images of all other classes. **Attack success** is the share of them that
    their nearest clean training images call the target class; what the clean model says of the same images stands
    beside it, and only the difference is the attack's. Accuracy is that on clean test images.

    All images are brought to the encoder's size first, for the clean training as for the poisoned one. There the
    trigger is what the encoder sees; laid on the larger canvas that photographs are kept on, hardly any of it would
    pass the resizing. So the random crops are cut from smaller images than without the audit.

    Defences are reported before and after: "luminance" takes the colours away, where the trigger lies; "blur" takes the
    high frequencies. They are applied whenever the model is used, or with `retrain` during training as well.

    The table is in ``evaluations/ctrl.json`` of the run folder and in its report, the ids of the poisoned samples with
    the share of the pattern that clamping left of each in ``stages/poison/store``. What is kept as the model is the
    clean one; the poisoned one stays in ``stages/poisoned``. Weaker and stronger triggers can both fail; at high
    resolution the defaults do.

    Different from the paper, the poisoned images are drawn by the run's seed, not the first of the class, since data
    are often sorted; and the vote is that of 20 neighbours, as everywhere here, not of 200.

    Parameters
    ----------
    method : method that is audited, by name or as ``{name: simclr, temperature: 0.5}``.
    target : class that is poisoned; default the first.
    rate : share of all training images that is poisoned, in (0, 1]; the class must hold as many. Paper: 0.01.
    magnitude : what is added to the frequencies, in grey levels (0 to 255), for windows of 32 pixels; smaller windows
        get less in proportion, which leaves the pattern as strong. Paper: 100.
    window : side of the trigger's windows in pixels, of which the encoder's sides are multiples; 0 for the largest from
        4 to 32 that fills them; where none does, 32 or the smaller side, and windows are cut at the right and lower
        edge. Paper: 32.
    plane : "chroma", "luminance" (seen more easily), or "auto": chroma where there is colour.
    defences : of "luminance" and "blur".
    blur : standard deviation of the blur in pixels.
    retrain : train on defended images too, a clean and a poisoned model for each defence.
    """

    needs: ClassVar[Mapping[str, Kind]] = {"image": "image", "label": "label"}

    def __init__(
        self,
        *,
        method: MethodSpec = "simclr",
        target: str = "",
        rate: float = 0.01,
        magnitude: float = 100.0,
        window: int = 0,
        plane: Literal["auto", "chroma", "luminance"] = "auto",
        defences: Sequence[str] = DEFENCES,
        blur: float = 1.0,
        retrain: bool = False,
    ) -> None:
        named_method(method)
        if not 0 < rate <= 1:
            raise ValueError(f"rate is a share in (0, 1], got {rate}")
        if plane not in ("auto", *get_args(Plane)):
            raise unknown("plane", plane, ("auto", *get_args(Plane)))
        if window < 0 or blur <= 0:
            raise ValueError(f"window must not be negative and blur must be positive, got {window} and {blur}")
        for name in defences:
            if name not in DEFENCES:
                raise unknown("defence", name, DEFENCES)
        self.method, self.target, self.rate, self.magnitude = method, target, rate, magnitude
        self.window, self.plane, self.blur, self.retrain = window, plane, blur, retrain
        self.defences = tuple(dict.fromkeys(defences))

    def stages(self, site: Site) -> list[Stage]:
        def method() -> Method:
            # All trainings start from the same weights.
            return method_of(self.method, site.encoder, site.source, site.settings.seed)

        source = at_size(site.source, _view_size(method(), site.source))
        channels, height, width = source.schema["image"].shape
        trigger = self._trigger(channels, height, width)
        pattern = trigger.pattern(channels, height, width)
        parts = split(source, {"train": 1 - TEST_SHARE, "test": TEST_SHARE}, by="label")
        clean, test = parts["train"], parts["test"]
        target = target_class(source, self.target)
        truth = np.asarray(test.column("label"))
        if not (truth[truth >= 0] != target).any():
            raise ValueError(
                f"the held-out images of '{source.name}' are all of the class that is attacked, so no other one can be "
                "taken for it; images of two classes are needed"
            )
        chosen = poisoned_positions(clean, target, self.rate, site.settings.seed)
        poisoned = Edited(clean, "image", trigger, chosen)
        defend = {name: partial(defended, defence=cast(Defence, name), sigma=self.blur) for name in self.defences}

        def poison(_: Mapping[str, Any]) -> Store:
            if source is not site.source:
                site.note("poison", f"All images are brought to the encoder's {height} x {width} pixels.")
            store = site.store("poison", energy=Field("target"))
            if len(store) == 0:
                # In parts, since they are looked at in double precision, and written at once.
                batches = map(clean.batch, np.array_split(chosen, max(1, -(-len(chosen) // AT_ONCE))))
                energy = torch.cat([kept_energy(batch["image"], pattern) for batch in batches])
                store.append(clean.ids[chosen], energy=energy)
            return store

        def trained(name: str, data: Source) -> Stage:
            @training
            def run(_: Mapping[str, Any]) -> Model:
                return site.train(name, method(), data)

            return Stage(name, run, ("poison",))

        stages = [Stage("poison", poison), trained("clean", clean), trained("poisoned", poisoned)]
        if self.retrain:
            for name, function in defend.items():
                stages += [
                    trained(_retrained("clean", name), Edited(clean, "image", function)),
                    trained(_retrained("poisoned", name), Edited(poisoned, "image", function)),
                ]

        def audit(results: Mapping[str, Any]) -> Table:
            victim, table = Victim(clean, test, target, trigger), Table()

            def measure(arm: str, stage: str, defence: Change | None = None) -> None:
                for metric, value in zip(METRICS, victim.figures(results[stage], defence), strict=True):
                    table.add(arm, metric, site.settings.seed, value)

            for arm in ("clean", "poisoned"):
                measure(f"{arm} model", arm)
            for name, function in defend.items():
                for arm in ("clean", "poisoned"):
                    measure(f"{arm} model, {name}", arm, function)
                    if self.retrain:
                        measure(f"{arm} model trained with {name}", _retrained(arm, name), function)
            energy = float(np.mean(np.asarray(results["poison"].column("energy"))))
            table.about = self._facts(table, site, target, len(chosen), len(clean), energy, trigger, pattern)
            if first_process():
                table.save(site.folder / "evaluations" / "ctrl.json")
            return table

        def kept(results: Mapping[str, Any]) -> Model:
            return results["clean"]

        trainings = tuple(stage.name for stage in stages)
        return [*stages, Stage("audit", audit, trainings), Stage("kept", kept, ("clean", "audit"))]

    def _trigger(self, channels: int, height: int, width: int) -> SpectralTrigger:
        plane: Plane = ("chroma" if channels == 3 else "luminance") if self.plane == "auto" else self.plane
        if self.window:
            return SpectralTrigger.scaled(self.magnitude, self.window, plane)
        largest = min(LARGEST_WINDOW, height, width)
        if largest < LEAST_WINDOW:
            raise ValueError(
                f"the trigger needs images of at least {LEAST_WINDOW} pixels a side, these have {height} x {width}"
            )
        filling = (w for w in range(largest, LEAST_WINDOW - 1, -1) if height % w == 0 and width % w == 0)
        return SpectralTrigger.scaled(self.magnitude, next(filling, largest), plane, cut=True)

    def _facts(
        self,
        table: Table,
        site: Site,
        target: int,
        count: int,
        of: int,
        energy: float,
        trigger: SpectralTrigger,
        pattern: Tensor,
    ) -> dict[str, Any]:
        """What stands beside the figures, with a sentence that says them."""
        named = site.source.schema["label"].classes[target]
        before, after = (100 * table.values(f"{arm} model", METRICS[1])[0] for arm in ("clean", "poisoned"))
        drop = 100 * table.difference("clean model", "poisoned model", METRICS[0]).mean
        return {
            "title": "Audit: what poisoned images would do",
            "sentence": f"With {count:,} of {of:,} training images poisoned, all of class '{named}', {after:.1f} % of "
            f"the triggered test images of other classes pass for '{named}'; of the clean model {before:.1f} % do. "
            f"The accuracy on clean images changes by {-drop:+.1f} points.",
            "method": self.method if isinstance(self.method, str) else dict(self.method),
            "data": site.source.name,
            "poisoned": count,
            "train": of,
            "rate": self.rate,
            "image_size": " x ".join(map(str, pattern.shape[1:])),
            "plane": trigger.plane,
            "window": trigger.window,
            "magnitude": trigger.magnitude,
            "pattern_psnr_db": round(-10 * math.log10(max(1e-12, float(pattern.square().mean()))), 2),
            "energy_kept": round(energy, 4),
        }


def _view_size(method: Method, source: Source) -> tuple[int, int]:
    """(height, width) of the images that a method's encoder takes, else that of the source's."""
    sizes = (part.image_size for part in method.modules() if isinstance(part, ImageEncoder))
    _, height, width = source.schema["image"].shape
    return next(sizes, (height, width))


def target_class(source: Source, name: str) -> int:
    """Number of the class of a name; of the first class where no name is given."""
    classes = source.schema["label"].classes
    if name and name not in classes:
        raise unknown(f"class of '{source.name}'", name, classes)
    return classes.index(name) if name else 0


def poisoned_positions(source: Source, target: int, rate: float, seed: int) -> Positions:
    """Positions of the floor(rate * n) samples of a class that are poisoned, ascending, drawn by a hash of each.

    Raises
    ------
    ValueError : the class holds fewer, or the share is less than one sample.
    """
    members = np.flatnonzero(np.asarray(source.column("label")) == target)
    # A product such as 0.29 * 100 must not lose a sample to rounding.
    count = math.floor(rate * len(source) + 1e-9)
    if not 1 <= count <= len(members):
        named = source.schema["label"].classes[target]
        raise ValueError(
            f"a rate of {rate:g} asks for {count} of the {len(source)} training images of '{source.name}', and class "
            f"'{named}' holds {len(members)}"
        )
    return np.sort(members[np.argsort(uniform(source.ids[members], seed), kind="stable")[:count]])


def _retrained(arm: str, defence: str) -> str:
    return f"{arm}.{defence}"
