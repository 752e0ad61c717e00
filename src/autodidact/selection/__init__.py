"""Selection: which samples belong together, or are worth training on. Pure functions of embeddings or texts."""

from autodidact.selection.bm25 import BM25
from autodidact.selection.consensus import folded, medoid, rouge_l, vote, words
from autodidact.selection.dense import Dense, Fused, Index
from autodidact.selection.graph import distinct_pairs, mutual_neighbours, partners, transitive_pairs
from autodidact.selection.lengths import LengthWindow, length_window
from autodidact.selection.novelty import Novelty, novel
from autodidact.selection.simcore import (
    Coreset,
    check_directions,
    facility_location,
    greedy_facility_location,
    select_by_rounds,
)
from autodidact.selection.stems import stem

__all__ = [
    "BM25",
    "Coreset",
    "Dense",
    "Fused",
    "Index",
    "LengthWindow",
    "Novelty",
    "check_directions",
    "distinct_pairs",
    "facility_location",
    "folded",
    "greedy_facility_location",
    "length_window",
    "medoid",
    "mutual_neighbours",
    "novel",
    "partners",
    "rouge_l",
    "select_by_rounds",
    "stem",
    "transitive_pairs",
    "vote",
    "words",
]
