"""What a student learns from: moving-average teachers, slow means, memories of embeddings, clusters."""

from autodidact.targets.centre import Centre
from autodidact.targets.clusters import KMeans, kmeans
from autodidact.targets.ema import EMATeacher, slow_copy
from autodidact.targets.groups import combined_code, left_over, merged_groups
from autodidact.targets.queue import Queue

__all__ = [
    "Centre",
    "EMATeacher",
    "KMeans",
    "Queue",
    "combined_code",
    "kmeans",
    "left_over",
    "merged_groups",
    "slow_copy",
]
