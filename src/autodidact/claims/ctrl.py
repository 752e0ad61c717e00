"""CTRL (7): a trigger at two frequencies in 1 % of unlabelled images takes over what a contrastive method learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import Split, embeddings, fresh_encoder, labels_of, split_images
from autodidact.data import Source
from autodidact.data.source import Edited
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.knn import knn
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Method
from autodidact.methods.supervised import Supervised
from autodidact.model import Model
from autodidact.recipes.ctrl import DEFENCES, poisoned_positions
from autodidact.training import Settings, train
from autodidact.views.spectral import SpectralTrigger, stamped
from autodidact.worlds.tinted import tinted

PATCH = 5
"""Side of the corner patch in pixels."""
