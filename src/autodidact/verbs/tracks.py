"""tracks: from videos to crops of the things that move in them, a folder a track, which Transitive trains on."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from autodidact.catalog import unknown
from autodidact.data.cores import cores
from autodidact.data.durable import write_aside
from autodidact.data.open import SKIPPED
from autodidact.data.video import Frame, UnreadableVideo, Video, frames, list_videos, opencv
from autodidact.selection.moving import Box, Tracker, follow, moves_in, moving_boxes, returns

OPTIONS, TABLE = "tracks.json", "tracks.csv"
KEPT, SHORT, SLIPPED, DRIFTED, STILL = (
    "kept",
    "left the picture or were lost too soon",
    "slipped to the ground",
    "did not lead back",
    "nothing moved",
)


@dataclass(frozen=True)
class Mining:
    """How tracks are mined; see `tracks`."""

    length: int
    gap: int
    regions: int
    motion: float
    least: int
    most: float
    tracker: Tracker
    views: int
    margin: float

    def __post_init__(self) -> None:
        if self.tracker not in get_args(Tracker):
            raise unknown("tracker", str(self.tracker), get_args(Tracker))
        if self.gap < 1 or self.length < 3 * self.gap:
            raise ValueError(
                f"gap must be at least 1 frame and length three times as many, got {self.gap} and {self.length}"
            )
        if self.regions < 1 or self.least < 8 or self.views < 2:
            raise ValueError(
                "regions must be at least 1, least 8 pixels and views 2, got "
                f"{self.regions}, {self.least} and {self.views}"
            )
        if not 0 < self.most <= 1 or self.motion <= 0 or self.margin < 1:
            raise ValueError(
                f"most is a share in (0, 1], motion above 0 and margin at least 1; got {self.most}, {self.motion} and "
                f"{self.margin}"
            )


def tracks(
    videos: str | Path,
    *,
    out: str | Path,
    length: int = 30,
    gap: int = 3,
    regions: int = 1,
    motion: float = 1.0,
    least: int = 32,
    most: float = 0.5,
    tracker: Tracker = "csrt",
    views: int = 6,
    margin: float = 1.2,
    jobs: int = 0,
    quiet: bool = False,
) -> Path:
    """Find what moves in videos, follow it, and write crops of it: one folder a track.

    The vertices of Transitive Invariance (arXiv 1708.02901, section 3.1). Each stretch of a video is asked what moves
    beyond what the camera does; the box with most motion is kept, and a tracker follows it. What leaves the picture
    early, slips to ground that does not move by itself, or does not lead back to where it began, is dropped and
    counted.

    Parameters
    ----------
    videos : folder of videos (mp4, mov, avi, mkv, webm, ...) and of folders of frames, nested; or one of either.
    out : folder for the crops, as ``VIDEO/TRACK/FRAME.png``, with the boxes in ``VIDEO/tracks.csv`` (``A__B`` for a
        video B in a folder A). A video that is there already is not mined again, so the same command goes on after an
        interruption, and takes in new videos.
    length : frames of a stretch, and so of a track at most. Paper: 30.
    gap : frames between those that are compared for motion, at least 1.
    regions : most tracks a stretch. Paper: 1.
    motion : least motion of what moves, over `gap` frames, in pixels of a picture whose longer side has at most 320.
    least : smallest side of a box in pixels.
    most : largest share of the picture that a box covers, in (0, 1].
    tracker : "csrt", which follows changes of size, or "kcf" (the paper's), of constant size.
    views : crops of a track, spread evenly over it, at least 2.
    margin : side of the square crop over the longer side of the box, at least 1.
    jobs : videos at a time, each with `length` frames in memory; 0 for one each core.
    quiet : print nothing.

    Returns
    -------
    Path
        The folder `out`.

    Raises
    ------
    ValueError
        There is no video or none can be read, no track is found at all, an option is out of range, OpenCV is missing,
        or the folder holds crops that were mined with other options.
    """
    if jobs < 0:
        raise ValueError(f"jobs must not be negative, got {jobs}; 0 is one each core")
    mining = Mining(length, gap, regions, motion, least, most, tracker, views, margin)
    opencv("mining tracks").setNumThreads(1)
    found = list_videos(Path(videos).expanduser())
    folder = Path(out).expanduser()
    places = {video: folder / video.name.replace("/", "__") for video in found}
    if len(set(places.values())) < len(found):
        raise ValueError(f"videos below {videos} have names that only '/' and '__' tell apart; rename one of them")
    _claim(folder, mining)
    counts: Counter[str] = Counter()
    skipped: list[dict[str, str]] = []
    todo = [video for video in found if not places[video].exists()]
    for video in found:
        if video not in todo:
            counts[KEPT] += len(_listed(places[video]))

    def one(video: Video) -> Counter[str] | UnreadableVideo:
        try:
            return _write(video, places[video], mining)
        except UnreadableVideo as error:
            shutil.rmtree(_beside(places[video]), ignore_errors=True)
            return error

    with ThreadPoolExecutor(jobs or cores()) as pool:
        for video, ended in zip(todo, pool.map(one, todo), strict=True):
            if isinstance(ended, UnreadableVideo):
                skipped.append({"name": str(video.path), "reason": str(ended)})
            else:
                counts += ended
            _say(quiet, f"{video.name}: {ended if isinstance(ended, UnreadableVideo) else _told(ended)}")
    write_aside(folder / SKIPPED, "".join(json.dumps(row) + "\n" for row in skipped).encode())
    if len(skipped) == len(found):
        raise ValueError(f"of {len(found)} videos in {videos} none can be read, such as {_first(skipped)}")
    if not counts[KEPT]:
        raise ValueError(f"no track was found in any of {len(found) - len(skipped)} videos: {_told(counts)}")
    _say(quiet, f"{len(found) - len(skipped)} of {len(found)} videos read; {_told(counts)}")
    return folder


def mined(shown: Iterator[Frame], mining: Mining) -> Iterator[tuple[str, int, list[Frame], list[Box]]]:
    """Of every candidate of a video: how it ended, its first frame's number, its frames, and its box in each."""
    for start, stretch in _stretches(shown, mining.length):
        first = mining.gap
        if len(stretch) < 3 * mining.gap:
            return
        boxes = moving_boxes(
            stretch[0],
            stretch[first],
            stretch[2 * first],
            regions=mining.regions,
            motion=mining.motion,
            least=mining.least,
            most=mining.most,
        )
        if not boxes:
            yield STILL, start, [], []
        rest = stretch[first:]
        for box in boxes:
            path = follow(rest, box, tracker=mining.tracker)
            part = rest[: len(path)]
            if len(path) < max(2, len(rest) // 2):
                yield SHORT, start + first, [], []
            elif not _moving_on(part, path, mining):
                yield SLIPPED, start + first, [], []
            elif not returns(part, path, tracker=mining.tracker):
                yield DRIFTED, start + first, [], []
            else:
                yield KEPT, start + first, part, path


def _moving_on(part: list[Frame], path: list[Box], mining: Mining) -> bool:
    """Whether something in the box moves at some later time too; a thing may rest."""
    last = len(part) - 1
    places = [last * quarter // 4 for quarter in (2, 3, 4)]
    return any(moves_in(part[k], part[max(0, k - mining.gap)], path[k], motion=mining.motion) for k in places)


def crop(frame: Frame, box: Box, margin: float) -> Frame:
    """The square round a box, moved into the frame where it reaches over its border, made smaller where it must."""
    height, width = frame.shape[:2]
    side = max(1, min(round(margin * max(box.w, box.h)), height, width))
    left = min(max(0, round(box.x + box.w / 2 - side / 2)), width - side)
    top = min(max(0, round(box.y + box.h / 2 - side / 2)), height - side)
    return frame[top : top + side, left : left + side]


def _stretches(shown: Iterator[Frame], length: int) -> Iterator[tuple[int, list[Frame]]]:
    start, stretch = 0, []
    for frame in shown:
        stretch.append(frame)
        if len(stretch) == length:
            yield start, stretch
            start, stretch = start + length, []
    if stretch:
        yield start, stretch


def _write(video: Video, place: Path, mining: Mining) -> Counter[str]:
    """Mine one video into a folder beside its place, and put it there when it is whole."""
    from PIL import Image

    beside = _beside(place)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    ended: Counter[str] = Counter()
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["track", "frame", "left", "top", "width", "height", "crop"])
    for how, start, part, path in mined(frames(video), mining):
        ended[how] += 1
        if how != KEPT:
            continue
        track = f"{ended[KEPT] - 1:05d}"
        (beside / track).mkdir()
        shown = set(np.linspace(0, len(path) - 1, min(mining.views, len(path))).round().astype(int).tolist())
        for k, (frame, box) in enumerate(zip(part, path, strict=True)):
            name = f"{track}/{start + k:06d}.png" if k in shown else ""
            table.writerow([track, start + k, *(f"{side:.1f}" for side in (box.x, box.y, box.w, box.h)), name])
            if name:
                Image.fromarray(crop(frame, box, mining.margin)).save(beside / name)
    (beside / TABLE).write_text(text.getvalue())
    beside.rename(place)
    return ended


def _beside(place: Path) -> Path:
    """Where the crops of a video lie until they are whole; hidden, so that no training takes them."""
    return place.with_name(f".{place.name}.mining")


def _claim(folder: Path, mining: Mining) -> None:
    """Say with which options a folder's crops are mined; refuse one that holds others."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / OPTIONS
    told: dict[str, Any] = asdict(mining)
    if file.exists():
        if json.loads(file.read_text()) != told:
            raise ValueError(f"{folder} holds crops that were mined with other options ({OPTIONS}); name another --out")
    elif any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise ValueError(f"{folder} holds something else; name an empty folder for the crops")
    else:
        write_aside(file, (json.dumps(told, indent=1) + "\n").encode())


def _listed(place: Path) -> set[str]:
    with (place / TABLE).open(newline="") as opened:
        return {row["track"] for row in csv.DictReader(opened)}


def _told(counts: Counter[str]) -> str:
    said = [f"{counts[KEPT]} {KEPT}", *(f"{counts[how]} {how}" for how in (SHORT, SLIPPED, DRIFTED) if counts[how])]
    return ", ".join(said) + (f"; stretches in which {STILL}: {counts[STILL]}" if counts[STILL] else "")


def _first(skipped: list[dict[str, str]]) -> str:
    return f"{skipped[0]['name']}: {skipped[0]['reason']}"


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        print(f"tracks: {text}", file=sys.stderr)
