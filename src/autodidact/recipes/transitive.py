"""Transitive Invariance: look-alikes in two tracks and other views along each track give pairs that differ in both."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.catalog import Card, unknown
from autodidact.data.combined import Together, together
from autodidact.data.grouping import groups_of
from autodidact.data.pairs import OTHER, pair_ids, stored_pairs
from autodidact.data.schema import Field
from autodidact.data.source import Source
from autodidact.data.store import Store
from autodidact.evaluation.table import Table
from autodidact.methods.image.paired import PairTriplets, check_mining, check_negatives
from autodidact.model import Model
from autodidact.recipes.first_feature import clustered_codes
from autodidact.recipes.stages import Recipe, Site, Stage, at_once, training
from autodidact.selection import distinct_pairs, mutual_neighbours, partners, transitive_pairs
from autodidact.training.processes import first_process

Kinds = Literal["intra", "inter", "union", "without_inter", "transitive"]
SHARES: Mapping[str, Mapping[str, float]] = {
    "intra": {"intra": 1.0},
    "inter": {"inter": 1.0},
    "union": {"intra": 1 / 2, "inter": 1 / 2},
    "without_inter": {"transitive": 3 / 4, "intra": 1 / 4},
    # An edge A - B with A' and B' gives A - A', A - B and the three pairs that follow, all of one weight.
    "transitive": {"transitive": 3 / 5, "intra": 1 / 5, "inter": 1 / 5},
}
CLUSTER_SIZE = 300
MARKS = ("cluster", "track")

CARD = Card(
    name="transitive",
    target="Transitive",
    kind="recipe",
    number=49,
    title="Transitive Invariance",
    paper="Wang, He, Gupta: Transitive Invariance for Self-supervised Representation Learning (1708.02901, 2017)",
    summary="Learns from tracks of objects: crops that look alike, and other views of either, belong together.",
    needs=(("image", "image"),),
    arguments=("tracks", "pairs", "neighbours"),
    claim="transitive",
    encoder="small:convnet",
)


class Transitive(Recipe):
    """Transitive Invariance (arXiv 1708.02901, section 3): autoencoder, graph, triplets.

    The data are crops of objects along tracks, one subfolder a track: frames of a video of one thing, or photographs
    of it from several sides. ``autodidact tracks`` makes them from videos: it finds what moves and follows it.

    An autoencoder's code with all its positions, which does not know that two views of a thing belong together, links
    crops of different tracks that look alike, hence from a similar side (inter). Two crops of one track are of one
    thing (intra). From A - B, A - A' and B - B' follow A - B', A' - B and A' - B', of different things from different
    sides. An encoder is trained on all of these pairs against crops of other clusters. Wrong edges make wrong pairs:
    the stage ``graph`` counts edges, samples without any, and, where there are labels that are not the tracks
    themselves, the share of pairs of one class. The first feature's network is not what the encoder starts from.

    Parameters
    ----------
    tracks : "folder", the folder that an image lies in; the name of a field with a number a track; or
        ``FILE[:FILE_COLUMN]:COLUMN``, a CSV or Parquet file that names the track of every image. Folders of classes are
        no tracks: pairs along them would be chosen by labels, which is warned of where folders are few and full.
    pairs : which are trained on: "transitive" (all kinds), "without_inter" (what follows from the look-alikes, but not
        these themselves), "union" (intra and inter), "intra" or "inter".
    neighbours : most edges of a sample to look-alikes of other tracks, which must be mutual, >= 1.
    least : smallest cosine of an edge, between codes that have their mean taken off, in [-1, 1].
    clusters : k-means clusters of the codes, at least 2: edges stay inside one, negatives come from others. 0 for one
        in every 300 samples. Paper: about 5,000 of millions. Few clusters make fewer false negatives.
    draws : how often another crop of its track is drawn for each crop, >= 1.
    autoencoder_epochs, noise : of the autoencoder, see `GSimCLR`. (The paper's first feature predicts the relative
        position of patches.)
    margin : by which a negative must be farther than the positive, in cosine distance. Paper: 0.5.
    hardest : negatives an image once they are mined. Paper: 4.
    mine_from : share of the training before negatives are mined, in [0, 1].
    semi_hard : mine only among negatives that are farther than the positive.
    hidden, dimensions : of the projector, see `SimCLR`.
    view : augmentation of every crop by name, see `SimCLR`; "none" leaves all invariance to the pairs.
    """

    def __init__(
        self,
        *,
        tracks: str = "folder",
        pairs: Kinds = "transitive",
        neighbours: int = 5,
        least: float = 0.0,
        clusters: int = 0,
        draws: int = 4,
        autoencoder_epochs: int = 5,
        noise: float = 0.01,
        margin: float = 0.5,
        hardest: int = 4,
        mine_from: float = 0.2,
        semi_hard: bool = False,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
    ) -> None:
        if pairs not in get_args(Kinds):
            raise unknown("kind of pairs", str(pairs), get_args(Kinds))
        if neighbours < 1 or draws < 1:
            raise ValueError(f"neighbours and draws must be at least 1, got {neighbours} and {draws}")
        if clusters < 0 or clusters == 1:
            raise ValueError(f"clusters must be at least 2, so that there are negatives, or 0; got {clusters}")
        if not -1 <= least <= 1:
            raise ValueError(f"least is a cosine in [-1, 1], got {least}")
        check_mining(margin, hardest, mine_from)
        self.tracks, self.pairs, self.neighbours, self.least = tracks, pairs, neighbours, least
        self.clusters, self.draws = clusters, draws
        self.autoencoder_epochs, self.noise = autoencoder_epochs, noise
        self.triplets = {
            "margin": margin,
            "hardest": hardest,
            "mine_from": mine_from,
            "semi_hard": semi_hard,
            "hidden": hidden,
            "dimensions": dimensions,
            "view": view,
        }

    def edges(
        self, source: Source, codes: Float[Tensor, "n d"], tracks: Int[Tensor, " n"], clusters: Int[Tensor, " n"]
    ) -> Int[Tensor, "edges 2"]:
        """The inter-instance edges, as positions in the source."""
        return mutual_neighbours(centred(codes), tracks, clusters, k=self.neighbours, least=self.least)

    def stages(self, site: Site) -> list[Stage]:
        at_once(site.source)
        # Made once so that what it refuses is refused before the first training.
        self._triplets(site)
        size, parts = site.settings.batch_size, site.settings.accumulate
        if size // parts < 2:
            raise ValueError(
                "the negatives of a pair are images of other pairs, so at least 2 pairs must be seen at once; got "
                f"batch size {size}" + (f" in {parts} parts" if parts > 1 else "")
            )
        track = torch.from_numpy(tracks_of(site.source, self.tracks))
        if len(track.unique()) < 2:
            raise ValueError(
                f"all samples of '{site.source.name}' are of one track, so there is nothing to tell them from; tracks "
                "are folders, or tracks=FIELD or FILE:COLUMN"
            )

        def pairs(results: Mapping[str, Any]) -> Store:
            store = site.store("pairs", kind=Field("text"))
            if len(store):
                return store
            _warn_of_classes(site.source, track.numpy(), self.tracks)
            generator = torch.Generator().manual_seed(site.settings.seed)
            joined = site.source.joined(results["codes"]).joined(results["clusters"])
            codes, cluster = (torch.tensor(np.asarray(joined.column(name))) for name in ("code", "cluster"))
            if len(cluster.unique()) < 2:
                raise ValueError(
                    f"all samples of '{site.source.name}' lie in one cluster, so there is nothing to tell them from: "
                    "are the images all alike?"
                )
            edges = self.edges(site.source, codes, track, cluster)
            found = pair_kinds(edges, track, self.draws, generator)
            first, second = (site.source.ids[ends] for ends in torch.cat(list(found.values())).numpy().T)
            kinds = [kind for kind, pairs in found.items() for _ in pairs]
            if len(first):
                # All at once: a store that holds something holds everything.
                store.append(pair_ids(first, second), first=first, second=second, kind=kinds)
            return store

        def graph(results: Mapping[str, Any]) -> Table:
            table = described(site.source, results["pairs"], site.settings.seed, track.numpy())
            site.note("graph", *told(table))
            return table

        @training
        def triplets(results: Mapping[str, Any]) -> Model:
            known = Store(name="tracks", schema={"track": Field("group")})
            known.append(site.source.ids, track=track)
            marked = site.source.joined(known).joined(results["clusters"])
            method, shown = self._triplets(site), self._shown(marked, results["pairs"])
            check_negatives(_marks(shown, ""), _marks(shown, OTHER), MARKS)
            model = site.train("triplets", method, shown)
            if first_process():
                site.note("triplets", method.told())
            return model

        count = self.clusters or max(2, round(len(site.source) / CLUSTER_SIZE))
        first = clustered_codes(site, clusters=count, epochs=self.autoencoder_epochs, noise=self.noise, tap="flat")
        return [
            *first,
            Stage("pairs", pairs, ("codes", "clusters")),
            Stage("graph", graph, ("pairs",)),
            Stage("triplets", triplets, ("clusters", "pairs", "graph")),
        ]

    def _triplets(self, site: Site) -> PairTriplets:
        return PairTriplets(site.encoder("encoder"), marks=MARKS, **self.triplets)  # type: ignore[arg-type]

    def _shown(self, marked: Source, store: Store) -> Together:
        """The kinds of pairs side by side in every batch, as far as there are any."""
        there = set(store.column("kind")) if len(store) else set()
        shares = {kind: share for kind, share in SHARES[self.pairs].items() if kind in there}
        if not shares:
            raise ValueError(
                f"there is no {' or '.join(SHARES[self.pairs])} pair: no track has two samples, or none looks like one "
                "of another track; tracks are folders, or tracks=FIELD or FILE:COLUMN"
            )
        if absent := SHARES[self.pairs].keys() - shares:
            warnings.warn(f"there is no {' and no '.join(sorted(absent))} pair to train on", stacklevel=2)
        shares = {kind: share / sum(shares.values()) for kind, share in shares.items()}
        return together(shares, **{kind: stored_pairs(marked, store, kind) for kind in shares})


def _marks(shown: Together, end: str) -> Int[Tensor, "pairs 2"]:
    """Of the first or the other image of every pair that is shown."""
    rows = [np.stack([pairs.column(end + mark) for mark in MARKS], axis=1) for pairs in shown.sources.values()]
    return torch.tensor(np.concatenate(rows))


def tracks_of(source: Source, tracks: str) -> np.ndarray:
    """A number for the track of every sample: by the folder in its name, by a field, or by a column of a file.

    A sample in no folder, or of no known track, is a track of its own. Errors as in `groups_of`.
    """
    if tracks == "folder":
        folders = [name.rpartition("/")[0] or name for name in source.names]
        return np.unique(folders, return_inverse=True)[1].astype(np.int64)
    values, _ = groups_of(source, tracks)
    return np.where(values >= 0, values, values.max(initial=0) + 1 + np.arange(len(values)))


def _are_classes(source: Source, track: np.ndarray) -> bool:
    """Whether the tracks are the classes."""
    label = source.schema.first("label")
    if label is None:
        return False
    classes = np.asarray(source.column(label))
    both = len(set(zip(track.tolist(), classes.tolist(), strict=True)))
    return both == len(np.unique(track)) == len(np.unique(classes))


def _warn_of_classes(source: Source, track: np.ndarray, tracks: str) -> None:
    """Say so where the tracks are classes: what is learned then comes from labels.

    A folder for each thing is a class too, by its name. Many folders of few images are taken for things.
    """
    count = len(np.unique(track))
    if _are_classes(source, track) and (tracks != "folder" or count**2 < len(track)):
        warnings.warn(
            f"the {count} tracks of '{source.name}' are its {count} classes, so labels choose the pairs along a track; "
            "give each thing a folder of its own, or name a field of tracks",
            stacklevel=3,
        )


def centred(codes: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Codes with their mean taken off; zero where nothing is left but rounding."""
    rows = codes.double() - codes.double().mean(0)
    rounding = 1e-6 * codes.double().norm(dim=1, keepdim=True)
    return rows.where(rows.norm(dim=1, keepdim=True) > rounding, 0.0).to(codes.dtype)


def pair_kinds(
    edges: Int[Tensor, "edges 2"], tracks: Int[Tensor, " n"], draws: int, generator: torch.Generator
) -> dict[str, Int[Tensor, "pairs 2"]]:
    """All pairs by kind: inter (the edges), intra, and those that follow; each pair once."""
    samples = torch.arange(len(tracks))
    intra, following = [], []
    for _ in range(draws):
        partner = partners(tracks, generator)
        # Samples without an edge have views of their own track, too.
        intra.append(torch.stack([samples, partner], dim=1))
        following.append(transitive_pairs(edges, partner)[1])
    return {
        "intra": distinct_pairs(torch.cat(intra)),
        "inter": edges,
        "transitive": distinct_pairs(torch.cat(following)),
    }


def told(table: Table) -> list[str]:
    """What `described` found, a sentence for each kind of pairs."""
    said = []
    for kind in SHARES["transitive"]:
        found = {metric: table.values(kind, metric) for metric in table.metrics}
        parts = [f"{count:,.0f} {kind} pairs" for count in found["pairs"]]
        parts += [f"{count:,.0f} samples without any" for count in found["samples without"]]
        parts += [f"{100 * share:.0f} % of one class" for share in found.get("purity", ())]
        said.append(", ".join(parts))
    return said


def described(source: Source, store: Store, seed: int, track: np.ndarray) -> Table:
    """How many pairs there are of each kind, samples without an edge, and the share of pairs of one class.

    Where the tracks are the classes that share says nothing, and is left out.
    """
    table = Table({"data": source.name})
    empty = np.empty(0, dtype=np.int64)
    kinds, first, second = (
        (np.asarray(store.column(name)) for name in ("kind", "first", "second")) if len(store) else (empty,) * 3
    )
    label = None if _are_classes(source, track) else source.schema.first("label")
    for kind in SHARES["transitive"]:
        ends = np.stack([first[kinds == kind], second[kinds == kind]])
        table.add(kind, "pairs", seed, int((kinds == kind).sum()))
        if kind == "inter":
            table.add(kind, "samples without", seed, len(source) - len(np.unique(ends)))
        if label is not None and ends.size:
            known = dict(zip(source.ids.tolist(), np.asarray(source.column(label)).tolist(), strict=True))
            classes = np.vectorize(known.__getitem__, otypes=[np.int64])(ends)
            judged = (classes >= 0).all(0)
            if judged.any():
                table.add(kind, "purity", seed, float((classes[0] == classes[1])[judged].mean()))
    return table
