"""Views: random, batched, on the device; and masks over tokens and columns. Pure torch, one generator in, no state."""

from autodidact.views.augment import PRESETS, Augment
from autodidact.views.column_subsets import ColumnSubsets, column_subsets
from autodidact.views.corruption import FILLS, BlockCorruption, Corrupted, gmml_corruption, gmml_mask
from autodidact.views.eval_view import eval_view
from autodidact.views.jepa_blocks import JEPABlocks, jepa_blocks
from autodidact.views.look import Look
from autodidact.views.mixing import draw_mixing, mix
from autodidact.views.parameters import ViewParameters
from autodidact.views.style import draw_references, look_of, restyle, split_look, with_look
from autodidact.views.token_masks import (
    block_mask,
    gather_tokens,
    group_mask,
    keep_indices,
    masked_indices,
    pixel_mask,
    random_mask,
    rectangle_sides,
    scatter_tokens,
)

__all__ = [
    "FILLS",
    "PRESETS",
    "Augment",
    "BlockCorruption",
    "ColumnSubsets",
    "Corrupted",
    "JEPABlocks",
    "Look",
    "ViewParameters",
    "block_mask",
    "column_subsets",
    "draw_mixing",
    "draw_references",
    "eval_view",
    "gather_tokens",
    "gmml_corruption",
    "gmml_mask",
    "group_mask",
    "jepa_blocks",
    "keep_indices",
    "look_of",
    "masked_indices",
    "mix",
    "pixel_mask",
    "random_mask",
    "rectangle_sides",
    "restyle",
    "scatter_tokens",
    "split_look",
    "with_look",
]
