"""Training on Lightning: the Learner, the Step, exact resume, monitors. Torch is imported when training is."""

from typing import TYPE_CHECKING, Any

from autodidact.training.settings import Settings

if TYPE_CHECKING:
    from autodidact.training.finite import NonFinite
    from autodidact.training.run import train

__all__ = ["NonFinite", "Settings", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from autodidact.training.run import train

        return train
    if name == "NonFinite":
        from autodidact.training.finite import NonFinite

        return NonFinite
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
