"""Lightning without the metrics that no command uses: they take half of its import, and so of a command's start.

Lightning imports torchmetrics for one class, and that imports what each of its metrics needs: transformers, torchvision
and scipy's signals. A command leaves these out, until a user's own code is loaded, which finds torchmetrics whole.
"""

from __future__ import annotations

import sys

NAME = "torchmetrics"
UNUSED = ("scipy", "torchvision", "transformers")
"""Packages that only metrics need."""

_lean = False


def leave_out_metrics() -> None:
    """From now on torchmetrics is imported as if `UNUSED` were not installed. Nothing else is told so."""
    global _lean
    if NAME in sys.modules:
        return
    try:
        from lightning_utilities.core import imports
    except ModuleNotFoundError:
        # Without Lightning the command says itself what is missing.
        return
    _lean = True
    met, installed = imports.RequirementCache.__bool__, imports.package_available

    def asked(self: imports.RequirementCache) -> bool:
        return not (str(self.requirement).startswith(UNUSED) and _importing()) and met(self)

    def found(name: str) -> bool:
        return not (name in UNUSED and _importing()) and installed(name)

    imports.RequirementCache.__bool__ = asked  # type: ignore[method-assign]
    imports.package_available = found  # type: ignore[assignment]


def whole_metrics() -> None:
    """From now on whoever imports torchmetrics finds it whole; Lightning keeps the class that it has."""
    global _lean
    if _lean:
        _lean = False
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]


def _importing() -> bool:
    """Whether torchmetrics is being imported, and leanly."""
    spec = getattr(sys.modules.get(NAME), "__spec__", None)
    return _lean and getattr(spec, "_initializing", False)
