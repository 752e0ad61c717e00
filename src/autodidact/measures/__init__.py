"""Measures of embeddings and predictions: functions of tensors, without training."""

from autodidact.measures.agreement import accuracy, cluster_purity, rank_correlation
from autodidact.measures.collapse import collapse_verdict, per_dimension_std
from autodidact.measures.dependency_tree import dependency_tree, foreground, parts_of
from autodidact.measures.forgetting import Retention, retention
from autodidact.measures.intervals import Interval, mean_interval, paired_interval
from autodidact.measures.jepa_dynamics import FeatureDynamics
from autodidact.measures.lidar import lidar
from autodidact.measures.linear_network import LinearNetwork
from autodidact.measures.neighbours import knn_predict, nearest
from autodidact.measures.paired_features import LearningOrder, PairedFeatures, learning_order, paired_features
from autodidact.measures.predictor_dynamics import PredictorDynamics, flow, misalignment
from autodidact.measures.spectrum import Spectrum, effective_rank, rankme
from autodidact.measures.sphere import alignment, uniformity
from autodidact.measures.uncertainty import (
    Confidence,
    RiskCoverage,
    auroc,
    calibration_error,
    eigen_score,
    equivalence_classes,
    js_divergence,
    risk_coverage,
    semantic_entropy,
    token_confidence,
    vote_share,
)
from autodidact.measures.view_retrieval import view_retrieval

__all__ = [
    "Confidence",
    "FeatureDynamics",
    "Interval",
    "LearningOrder",
    "LinearNetwork",
    "PairedFeatures",
    "PredictorDynamics",
    "Retention",
    "RiskCoverage",
    "Spectrum",
    "accuracy",
    "alignment",
    "auroc",
    "calibration_error",
    "cluster_purity",
    "collapse_verdict",
    "dependency_tree",
    "effective_rank",
    "eigen_score",
    "equivalence_classes",
    "flow",
    "foreground",
    "js_divergence",
    "knn_predict",
    "learning_order",
    "lidar",
    "mean_interval",
    "misalignment",
    "nearest",
    "paired_features",
    "paired_interval",
    "parts_of",
    "per_dimension_std",
    "rank_correlation",
    "rankme",
    "retention",
    "risk_coverage",
    "semantic_entropy",
    "token_confidence",
    "uniformity",
    "view_retrieval",
    "vote_share",
]
