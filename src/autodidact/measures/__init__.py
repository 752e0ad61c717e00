"""Measures of embeddings and predictions: functions of tensors, without training."""

from autodidact.measures.agreement import accuracy, cluster_purity, rank_correlation
from autodidact.measures.collapse import collapse_verdict, per_dimension_std
from autodidact.measures.dependency_tree import dependency_tree, foreground, parts_of
from autodidact.measures.intervals import Interval, mean_interval, paired_interval
from autodidact.measures.lidar import lidar
from autodidact.measures.neighbours import knn_predict, nearest
from autodidact.measures.predictor_dynamics import PredictorDynamics, flow, misalignment
from autodidact.measures.spectrum import Spectrum, effective_rank, rankme
from autodidact.measures.sphere import alignment, uniformity

__all__ = [
    "Interval",
    "PredictorDynamics",
    "Spectrum",
    "accuracy",
    "alignment",
    "cluster_purity",
    "collapse_verdict",
    "dependency_tree",
    "effective_rank",
    "flow",
    "foreground",
    "knn_predict",
    "lidar",
    "mean_interval",
    "misalignment",
    "nearest",
    "paired_interval",
    "parts_of",
    "per_dimension_std",
    "rank_correlation",
    "rankme",
    "uniformity",
]
