"""How training went: one small chart for each thing that was watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autodidact.report.figures import Chart, Line, chart
from autodidact.report.markup import duration, number, paragraph, section, text
from autodidact.report.run_folder import Curves, RunFolder, Training

LEAD = (
    "The loss should fall, quickly at first. Watch the effective rank beside it: a loss that falls while the rank goes "
    "towards 1 is a model that cheats by making everything alike."
)
OF_REWARDS = "Where rewards are learned from, the loss means nothing, and the reward should rise."
OF_LANGUAGE = (
    "The loss should fall. Near 0, a model knows its examples by heart: fewer passes, or more examples. " + OF_REWARDS
)


@dataclass(frozen=True)
class Panel:
    """What one chart shows: metrics by the name of their line, a title, what it means, and its y axis."""

    metrics: dict[str, str]
    title: str
    meaning: str
    axis: str


PANELS = (
    Panel({"loss": "loss", "loss/floor": "lowest possible"}, "Loss", "What training makes small.", "loss"),
    Panel(
        {"rankme/embedding": "embedding", "rankme/projection": "projection"},
        "Effective rank (RankMe)",
        "In how many directions the last views that were trained on differ. Near 1 is collapse.",
        "directions",
    ),
    Panel(
        {"knn": "kNN"},
        "Online kNN accuracy",
        "Share of the last views that were trained on whose nearest neighbours, of other samples, carry their label. "
        "The figure at the top is of samples as they are, without augmentation.",
        "share",
    ),
    Panel(
        {"std/embedding": "embedding", "std/projection": "projection"},
        "Spread per dimension",
        "Standard deviation over samples. Near 0, all samples look alike to the model.",
        "standard deviation",
    ),
    Panel(
        {"alignment": "alignment"},
        "Distance between two views",
        "Of one sample, squared, on the unit sphere. Lower is better, as long as samples do not all come together.",
        "squared distance",
    ),
    Panel(
        {"uniformity": "uniformity"},
        "Uniformity",
        "How evenly samples spread over the sphere. Lower is more even; 0 is collapse.",
        "log potential",
    ),
    Panel(
        {"loss/chosen": "chosen", "loss/rejected": "rejected"},
        "Log-probability of the answers",
        "Of whole answers, in nats. Where those of chosen answers fall too, something else gets likelier.",
        "nats",
    ),
    Panel(
        {"loss/reward": "reward"},
        "Reward",
        "Mean over what was drawn, less what was taken off for a missing end. It should rise.",
        "reward",
    ),
    Panel(
        {"loss/reward_loss": "discriminator"},
        "What the reward learns",
        "Its own loss: 0.69 where it cannot tell answers from wanted ones, near 0 where it sees through all of them.",
        "nats",
    ),
    Panel(
        {"loss/first": "first answers", "loss/second": "second answers"},
        "Reward of both answers",
        "Means over the answers drawn. The gap is what the second look is worth.",
        "reward",
    ),
    Panel(
        {"loss/edited": "changed", "loss/better": "for the better", "loss/worse": "for the worse"},
        "From the first answer to the second",
        "Shares of second answers. Near 0 changed, the model copies itself.",
        "share",
    ),
    Panel(
        {"loss/kl": "answers", "loss/kl_first": "first answers", "loss/kl_second": "second answers"},
        "Divergence from the start",
        "How far the model has moved from what it was, in nats an answer. A rise that does not end is a reward hacked.",
        "nats",
    ),
    Panel(
        {"loss/cut_off": "cut off", "loss/dropped": "left out"},
        "What lacks something",
        "Shares of what was drawn that came to no end, or that nothing was learned from.",
        "share",
    ),
    Panel({"gradient_norm": "norm"}, "Gradient norm", "Sudden peaks ask for a lower learning rate.", "norm"),
    Panel({"lr": "rate"}, "Learning rate", "As scheduled.", "rate"),
)


def curves(run: RunFolder) -> str:
    """The section of charts; those of a recipe stage by stage."""
    parts = []
    times = {stage.name: stage for stage in run.stages}
    for number_, training in enumerate(run.trainings):
        drawn = "".join(_charts(training, f"c{number_}"))
        if not drawn:
            continue
        if training.name:
            seconds = times[training.name].seconds if training.name in times else None
            took = f" · {duration(seconds)}" if seconds is not None else " · not finished"
            parts.append(f"<h3>Stage {text(training.name)}{took}</h3>")
        parts.append(f'<div class="charts">{drawn}</div>')
    if run.stages:
        parts.insert(0, _stages(run))
    rewarded = any("loss/reward" in training.curves for training in run.trainings)
    lead = OF_LANGUAGE if run.of_language else OF_REWARDS if rewarded else LEAD
    return section("curves", "How training went", *parts, lead=lead if run.trainings else "")


def _stages(run: RunFolder) -> str:
    made = {"model": "trained a model", "store": "derived values for the samples", "table": "measured"}
    lines = "".join(
        f"<li><b>{text(stage.name)}</b> {made.get(stage.kind or '', 'not finished')}"
        f"{f' in {duration(stage.seconds)}' if stage.seconds is not None else ''}</li>"
        for stage in run.stages
    )
    return f'<ol class="stages">{lines}</ol>'


def _charts(training: Training, key: str) -> Iterator[str]:
    known = {name for panel in PANELS for name in panel.metrics}
    terms = [
        Panel(
            {name: name}, f"Loss term: {name.removeprefix('loss/')}", "One part of the loss, or a figure beside it.", ""
        )
        for name in training.curves
        if name.startswith("loss/") and name not in known
    ]
    others = [
        Panel({name: name}, name, "", "")
        for name in training.curves
        if name not in known and not name.startswith("loss/")
    ]
    for index, panel in enumerate((PANELS[0], *terms, *PANELS[1:], *others)):
        # A single point is no curve.
        if any(len(training.curves.get(name, ())) > 1 for name in panel.metrics):
            yield _one(panel, training.curves, f"{key}-{index}")


def _one(panel: Panel, values: Curves, key: str) -> str:
    lines = [
        Line([step for step, _ in values[name]], [value for _, value in values[name]], called, name == "loss/floor")
        for name, called in panel.metrics.items()
        if len(values.get(name, ())) > 1
    ]
    description = f"{panel.title}. " + " ".join(_told(line) for line in lines)
    drawn = chart(Chart(lines, "update", panel.axis or "value"), key, description)
    last = f'<span class="last">{number(lines[0].y[-1])}</span>'
    said = paragraph(panel.meaning) if panel.meaning else ""
    return f"<figure><figcaption><h4>{text(panel.title)} {last}</h4>{said}</figcaption>{drawn}</figure>"


def _told(line: Line) -> str:
    low, high = min(line.y), max(line.y)
    return (
        f"{line.name}: from {number(line.y[0])} to {number(line.y[-1])} over updates {line.x[0]:,.0f} to "
        f"{line.x[-1]:,.0f}, between {number(low)} and {number(high)}."
    )
