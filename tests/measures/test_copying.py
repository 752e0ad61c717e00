"""How much of a text is copied."""

from __future__ import annotations

import pytest

from autodidact.measures.copying import copied_share


def test_the_share_counts_runs_of_words_that_stand_in_a_source() -> None:
    assert copied_share("a b c d e", ["x a B c d y"], 4) == 0.5
    assert copied_share("a b c d", ["a b c", "b c d"], 3) == 1.0
    assert copied_share("a b", ["b a"], 1) == 1.0
    assert copied_share("a b c d", [], 4) == 0.0
    assert copied_share("a b c", ["a b c"], 4) is None
    with pytest.raises(ValueError, match="n must be at least 1"):
        copied_share("a", [], 0)
