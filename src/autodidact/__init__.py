"""autodidact: from unlabelled data of any kind to a useful model.

The verbs are functions of this module: `pretrain`, `improve`, `evaluate`, `compare`, `choose`, `apply`, `embed`,
`select`, `export`, `report`, `run_claim`, `demo`, `doctor`; each does what the command of its name does. `examine` is
`evaluate` without a run, of data alone; `plan` is ``pretrain --plan``. They are imported when they are first used, so
importing autodidact costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodidact.catalog import cards
    from autodidact.claims import run_claim
    from autodidact.data import open_source
    from autodidact.model import load_model
    from autodidact.training import Settings, train
    from autodidact.verbs.apply import apply, embed
    from autodidact.verbs.choose import choose
    from autodidact.verbs.compare import compare
    from autodidact.verbs.demo import demo
    from autodidact.verbs.doctor import doctor
    from autodidact.verbs.evaluate import evaluate
    from autodidact.verbs.examine import examine
    from autodidact.verbs.export import export
    from autodidact.verbs.improve import improve
    from autodidact.verbs.plan import plan
    from autodidact.verbs.pretrain import pretrain
    from autodidact.verbs.report import report
    from autodidact.verbs.select import select

__version__ = "0.1.0"

_HOMES = {
    "pretrain": "autodidact.verbs.pretrain",
    "improve": "autodidact.verbs.improve",
    "plan": "autodidact.verbs.plan",
    "evaluate": "autodidact.verbs.evaluate",
    "examine": "autodidact.verbs.examine",
    "choose": "autodidact.verbs.choose",
    "compare": "autodidact.verbs.compare",
    "apply": "autodidact.verbs.apply",
    "embed": "autodidact.verbs.apply",
    "select": "autodidact.verbs.select",
    "export": "autodidact.verbs.export",
    "report": "autodidact.verbs.report",
    "run_claim": "autodidact.claims",
    "demo": "autodidact.verbs.demo",
    "doctor": "autodidact.verbs.doctor",
    "cards": "autodidact.catalog",
    "open_source": "autodidact.data",
    "load_model": "autodidact.model",
    "Settings": "autodidact.training",
    "train": "autodidact.training",
}
__all__ = [
    "Settings",
    "__version__",
    "apply",
    "cards",
    "choose",
    "compare",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "examine",
    "export",
    "improve",
    "load_model",
    "open_source",
    "plan",
    "pretrain",
    "report",
    "run_claim",
    "select",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Verbs(ModuleType):
    """The verbs `compare` and `report` have the names of rooms: as an attribute the verb wins, also after the import
    system has loaded the room and wants to leave it there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Verbs
