"""Comparisons: arms x seeds under one budget, one table."""

from autodidact.compare.arms import Arm, cell_path, run_arms

__all__ = ["Arm", "cell_path", "run_arms"]
