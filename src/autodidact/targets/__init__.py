"""What a student learns from: moving-average teachers, slow means, memories of embeddings, clusters, patches."""

from autodidact.targets.centre import Centre
from autodidact.targets.clusters import KMeans, kmeans
from autodidact.targets.codebook import Codebook, Reservoir
from autodidact.targets.ema import EMATeacher, slow_copy
from autodidact.targets.groups import combined_code, left_over, merged_groups
from autodidact.targets.hog import hog, hog_cells, patch_hog
from autodidact.targets.latents import unit_tokens
from autodidact.targets.patches import image_of_patches, normalised_patches, patch_pixels, patch_statistics
from autodidact.targets.queue import Queue

__all__ = [
    "Centre",
    "Codebook",
    "EMATeacher",
    "KMeans",
    "Queue",
    "Reservoir",
    "combined_code",
    "hog",
    "hog_cells",
    "image_of_patches",
    "kmeans",
    "left_over",
    "merged_groups",
    "normalised_patches",
    "patch_hog",
    "patch_pixels",
    "patch_statistics",
    "slow_copy",
    "unit_tokens",
]
