"""Selection: which samples belong together, or are worth training on. Pure functions."""

from autodidact.selection.graph import distinct_pairs, mutual_neighbours, partners, transitive_pairs

__all__ = ["distinct_pairs", "mutual_neighbours", "partners", "transitive_pairs"]
