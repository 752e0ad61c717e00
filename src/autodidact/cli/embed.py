"""``autodidact embed RUN --data D --out FILE``: `apply` with the ability "embed"."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.cli import apply


def run(argv: Sequence[str]) -> None:
    """Parse, embed, say where the embeddings are."""
    apply.run(argv, "embed")
