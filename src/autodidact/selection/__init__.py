"""Selection: which samples belong together, or are worth training on. Pure functions of embeddings, torch only."""

from autodidact.selection.graph import distinct_pairs, mutual_neighbours, partners, transitive_pairs
from autodidact.selection.simcore import (
    Coreset,
    check_directions,
    facility_location,
    greedy_facility_location,
    select_by_rounds,
)

__all__ = [
    "Coreset",
    "check_directions",
    "distinct_pairs",
    "facility_location",
    "greedy_facility_location",
    "mutual_neighbours",
    "partners",
    "select_by_rounds",
    "transitive_pairs",
]
