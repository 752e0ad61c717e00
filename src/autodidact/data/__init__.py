"""Sources, batches, stores: everything between a person's files and a step of training."""

from autodidact.data.batch import Batch, Ragged
from autodidact.data.batching import (
    Batching,
    BucketBatching,
    DistinctBatching,
    EpisodeBatching,
    RandomBatching,
    ReplayBatching,
    SameBatching,
    WholeBatching,
    collision_share,
)
from autodidact.data.combined import chained, mixed, together, united
from autodidact.data.open import open_source
from autodidact.data.schema import Field, Schema
from autodidact.data.source import ArraySource, Source
from autodidact.data.splits import label_budget, label_fraction, split
from autodidact.data.statistics import channel_statistics, describe, fingerprint, table_statistics
from autodidact.data.store import Store, derive
from autodidact.data.stream import StreamSource

__all__ = [
    "ArraySource",
    "Batch",
    "Batching",
    "BucketBatching",
    "DistinctBatching",
    "EpisodeBatching",
    "Field",
    "Ragged",
    "RandomBatching",
    "ReplayBatching",
    "SameBatching",
    "Schema",
    "Source",
    "Store",
    "StreamSource",
    "WholeBatching",
    "chained",
    "channel_statistics",
    "collision_share",
    "derive",
    "describe",
    "fingerprint",
    "label_budget",
    "label_fraction",
    "mixed",
    "open_source",
    "split",
    "table_statistics",
    "together",
    "united",
]
