"""Which samples to train on: pure functions of embeddings, torch only."""

from autodidact.selection.simcore import Coreset, facility_location, greedy_facility_location, select_by_rounds

__all__ = ["Coreset", "facility_location", "greedy_facility_location", "select_by_rounds"]
