"""SLA (24): joint labels of class and rotation help a classifier where mere augmentation by rotation does harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import first_of_each, fresh_encoder, labels_of, split_images
from autodidact.data import Source
from autodidact.encoders.transformed import Inference, TransformedPredictor
from autodidact.methods.image.sla import SLA, Task
from autodidact.training import Settings, train


def run(
    *,
    task: Task,
    inference: Inference = "aggregated",
    times: int = 1,
    members: int = 1,
    digits: bool = False,
    beta: float = 1.0,
    temperature: float = 1.0,
    lr: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    per_class: int,
    steps: int,
    batch: int,
    encoder: str,
    transformations: str,
    view: str,
    view_changes: Mapping[str, Any],
    digits_images: int,
    digits_held: int,
    digits_per_class: int,
    digits_steps: int,
) -> dict[str, float]:
    """Train on a few labels a class; accuracy of the kept model, and of a single look at the image.

    `times` multiplies the updates. `members` classifiers are trained from weights of their own and averaged as the
    copies are, by their logits. `digits` takes the digits instead of the scale's images, shown as they are. `beta` and
    `temperature` are those of the distillation.
    """
    if digits:
        data, images, held, per_class, steps = "digits", digits_images, digits_held, digits_per_class, digits_steps
        view, view_changes = "none", {}
    split = split_images(data, images, held, seed)
    few = split.train.at(first_of_each(labels_of(split.train), per_class))
    models = []
    for member in range(members):
        own = seed + 10_000 * member
        network = fresh_encoder(encoder, few, own)
        torch.manual_seed(own)
        method = SLA(
            network,
            schema=few.schema,
            transformations=transformations,
            task=task,
            inference=inference,
            beta=beta,
            temperature=temperature,
            view=view,
            view_changes=dict(view_changes),
        )
        settings = Settings(steps=times * steps, batch_size=batch, lr=lr, weight_decay=1e-4, warmup=0.1, seed=own)
        trained = train(method, few, settings, quiet=True)
        assert isinstance(trained, TransformedPredictor)
        models.append(trained)
    figures = {
        "accuracy": _accuracy(models, split.test),
        "validation": _accuracy(models, split.validation),
    }
    for model in models:
        model.inference = "single"
    return {**figures, "single": _accuracy(models, split.test)}


def _accuracy(models: Sequence[TransformedPredictor], source: Source) -> float:
    said = torch.stack([_logits(model, source) for model in models]).mean(dim=0)
    return 100 * float((said.argmax(1).numpy() == labels_of(source)).mean())


def _logits(model: TransformedPredictor, source: Source) -> Tensor:
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(model.encoder.prepare(batch.fields)) for batch in source.in_order(250)])


PLAIN = {"task": "plain", "inference": "single"}
DISTILLED = {"task": "joint", "inference": "distilled"}
DISTILLATIONS: dict[str, dict[str, float]] = {
    "weight 4": {"beta": 4.0},
    "temperature 4": {"temperature": 4.0},
    "weight 0.3": {"beta": 0.3},
}
"""Other settings than the paper's 1 and 1."""
CLAIM = Claim(
    name="sla",
    number=24,
    statement="On a few labels a class, SLA with rotations and aggregated inference beats supervised training of equal "
    "compute, and does not lose what augmentation by rotations loses.",
    run=run,
    arms={
        "sla, aggregated": {"task": "joint"},
        "sla, distilled": DISTILLED,
        "multi-task, aggregated": {"task": "separate"},
        "rotated, aggregated": {"task": "invariant"},
        "baseline": PLAIN,
        "baseline, equal compute": {**PLAIN, "times": 4},
        "ensemble of 4": {**PLAIN, "members": 4},
        "digits, sla, aggregated": {"task": "joint", "digits": True},
        "digits, rotated, aggregated": {"task": "invariant", "digits": True},
        "digits, baseline": {**PLAIN, "digits": True},
        **{f"sla, distilled, {name}": {**DISTILLED, **options} for name, options in DISTILLATIONS.items()},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 4_000,
            "held": 4_000,
            "per_class": 50,
            "steps": 2_400,
            "batch": 32,
            "encoder": "small:convnet?width=16",
            "transformations": "rotation",
            "view": "grey",
            "view_changes": {"crop_scale": [0.6, 1.0], "blur_p": 0.0, "erase_p": 0.0},
            "digits_images": 600,
            "digits_held": 500,
            "digits_per_class": 10,
            "digits_steps": 600,
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 50_000,
            "held": 10_000,
            "per_class": 100,
            "steps": 20_000,
            "batch": 128,
            "encoder": "timm:resnet18",
            "transformations": "rotation",
            "view": "grey",
            "view_changes": {"crop_scale": [0.6, 1.0], "blur_p": 0.0, "erase_p": 0.0},
            "digits_images": 600,
            "digits_held": 500,
            "digits_per_class": 10,
            "digits_steps": 2_000,
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 300,
            "per_class": 5,
            "steps": 20,
            "batch": 16,
            "encoder": "small:convnet?width=4",
            "transformations": "rotation",
            "view": "none",
            "view_changes": {},
            "digits_images": 600,
            "digits_held": 300,
            "digits_per_class": 5,
            "digits_steps": 20,
        },
    },
    metric="accuracy",
    budget="{steps:,} updates of {batch} images on {per_class} labels a class by every arm, each image in 4 turns or "
    "as it is; 4 times the updates, or 4 networks, where the arm says so",
    grid={"lr": [3e-3, 1e-2, 3e-2]},
    tuning_seeds=(1000,),
    seeds=range(10, 18),
    few={
        **dict.fromkeys(
            ("sla, distilled", "multi-task, aggregated", "rotated, aggregated", "baseline", "ensemble of 4"), 5
        ),
        **dict.fromkeys((f"sla, distilled, {name}" for name in DISTILLATIONS), 5),
    },
    tunes={
        "ensemble of 4": "baseline",
        "digits, sla, aggregated": "sla, aggregated",
        "digits, rotated, aggregated": "rotated, aggregated",
        "digits, baseline": "baseline",
        **dict.fromkeys((f"sla, distilled, {name}" for name in DISTILLATIONS), "sla, distilled"),
    },
    same_as=("0ed335c30d17", "f17a676f5b44"),
    statements=(
        Statement(
            "gain",
            "accuracy of SLA, aggregated, minus that of the baseline with 4 times the updates",
            lambda f: f["sla, aggregated"]["accuracy"] - f["baseline, equal compute"]["accuracy"],
            role="main",
            unit="points",
        ),
        Statement(
            "gain per update",
            "accuracy of SLA, aggregated, minus that of the baseline with as many updates",
            lambda f: f["sla, aggregated"]["accuracy"] - f["baseline"]["accuracy"],
            unit="points",
        ),
        Statement(
            "single",
            "accuracy of SLA minus that of the rotated arm, each by a single look at the image",
            lambda f: f["sla, aggregated"]["single"] - f["rotated, aggregated"]["single"],
            unit="points",
        ),
        Statement(
            "rotated",
            "accuracy of SLA minus that of the rotated arm, both aggregated",
            lambda f: f["sla, aggregated"]["accuracy"] - f["rotated, aggregated"]["accuracy"],
            unit="points",
        ),
        Statement(
            "multi-task",
            "accuracy of SLA minus that of multi-task training, both aggregated",
            lambda f: f["sla, aggregated"]["accuracy"] - f["multi-task, aggregated"]["accuracy"],
            unit="points",
        ),
        Statement(
            "distilled",
            "accuracy of SLA distilled, at a quarter of the cost of an answer, minus that of SLA aggregated",
            lambda f: f["sla, distilled"]["accuracy"] - f["sla, aggregated"]["accuracy"],
            margin=-0.5,
            unit="points",
        ),
        Statement(
            "ensemble",
            "accuracy of SLA, aggregated, minus that of 4 baselines averaged, which answer at the same cost",
            lambda f: f["sla, aggregated"]["accuracy"] - f["ensemble of 4"]["accuracy"],
            unit="points",
        ),
        Statement(
            "room",
            "accuracy of the baseline: the labels do not suffice yet",
            lambda f: f["baseline"]["accuracy"],
            margin=90.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "harm",
            "digits: accuracy of the rotated arm, aggregated, minus that of the baseline; a 6 turned is a 9",
            lambda f: f["digits, rotated, aggregated"]["accuracy"] - f["digits, baseline"]["accuracy"],
            direction="below",
            role="control",
            unit="points",
        ),
        Statement(
            "repair",
            "digits: accuracy of SLA minus that of the rotated arm, both aggregated",
            lambda f: f["digits, sla, aggregated"]["accuracy"] - f["digits, rotated, aggregated"]["accuracy"],
            margin=5.0,
            unit="points",
        ),
        Statement(
            "digits",
            "digits: accuracy of SLA, aggregated, minus that of the baseline",
            lambda f: f["digits, sla, aggregated"]["accuracy"] - f["digits, baseline"]["accuracy"],
            unit="points",
        ),
        Statement(
            "single look",
            "accuracy of SLA by a single look at the image minus that of the baseline with 4 times the updates",
            lambda f: f["sla, aggregated"]["single"] - f["baseline, equal compute"]["accuracy"],
            unit="points",
        ),
        *(
            Statement(
                f"distilled, {name}",
                f"accuracy of SLA distilled with {name} instead of 1 minus that of SLA aggregated",
                lambda f, name=name: (  # type: ignore[misc]
                    f[f"sla, distilled, {name}"]["accuracy"] - f["sla, aggregated"]["accuracy"]
                ),
                margin=-0.5,
                unit="points",
            )
            for name in DISTILLATIONS
        ),
    ),
    notes=(
        "The second budget. After 600 updates, seeds 0 to 4, the claim was refuted: -3.6 points, 95 % interval -5.0 "
        "to -2.2 (results/earlier/sla_600_updates.json): a task with four times the classes had not been learned "
        "yet, and the largest of the three learning rates was best for all arms. So there are four times the "
        "updates now, for all arms, with larger rates to choose from and other seeds. What joint labels win over "
        "turned images and over two separate tasks was there in both.",
        "The gain is one of aggregation: by a single look SLA is not better than a baseline of equal compute, which "
        "was added once all figures were known. The distilled head stays a point behind the aggregated answers, twice "
        "the half that was allowed. Three other settings of the distillation were added once these figures were "
        "known, each at the learning rate that was tuned for the paper's: with weight 4 it stays further behind, with "
        "weight 0.3 or temperature 4 by nearly as much as with 1 and 1.",
        "The trainings of seeds 10 to 13, but for the baseline of equal compute and the ensemble, ran on an H100, "
        "and so did some side arms of seed 14, all others on a CPU. On seeds 14 to 17, where both arms of the main "
        "question ran on the CPU, the gain is as large.",
    ),
)
