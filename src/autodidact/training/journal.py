"""What a run writes while it trains: metrics as CSV rows that survive a crash, TensorBoard, W&B, MLflow."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autodidact.catalog import unknown

METRICS = "metrics.csv"


class Journal:
    """Metrics in ``log/metrics.csv`` with the columns step, name, value.

    A resumed run forgets the rows after its checkpoint and goes on.
    """

    def __init__(self, folder: Path, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS
        rows = [row for row in read_metrics(self.path) if row[0] <= start] if start else []
        with self.path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("step", "name", "value"))
            writer.writerows(rows)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows((step, name, f"{value:.6g}") for name, value in figures.items())


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) rows of a metrics file; empty where there is none. A half-written last row is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == 3 and row[0] != "step"]
    return [(int(step), name, float(value)) for step, name, value in rows if _number(value)]


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def further_loggers(names: Iterable[str], folder: Path, start: int) -> list[Any]:
    """TensorBoard always; W&B and MLflow when asked."""
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    loggers: list[Any] = [
        TensorBoardLogger(str(folder), name="", version="tensorboard", purge_step=start + 1 if start else None)
    ]
    for name in names:
        if name not in ("wandb", "mlflow"):
            raise unknown("logger", name, ("wandb", "mlflow"))
        try:
            if name == "wandb":
                loggers.append(WandbLogger(save_dir=str(folder), project="autodidact", name=folder.parent.name))
            else:
                loggers.append(
                    MLFlowLogger(
                        experiment_name="autodidact", run_name=folder.parent.name, save_dir=str(folder / "mlflow")
                    )
                )
        except ModuleNotFoundError as missing:
            raise ValueError(
                f"logger '{name}' is not installed ({missing.name}): pip install 'autodidact[loggers]'"
            ) from missing
    return loggers
