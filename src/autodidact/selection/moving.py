"""What moves in a video while the camera may move too, and where it goes: boxes by optical flow, then a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from autodidact.data.video import Frame, opencv

Tracker = Literal["kcf", "csrt"]
Frames = Sequence[Frame] | UInt8[np.ndarray, "n h w 3"]
WORKING_SIDE = 320
"""Longer side, in pixels, at which motion is measured; tracking and crops use the frames as they are."""
GRID = 8
"""Pixels between the points whose motion says how the camera moves."""


@dataclass(frozen=True)
class Box:
    """Left, top, width and height in pixels."""

    x: int | float
    y: int | float
    w: int | float
    h: int | float

    @property
    def area(self) -> float:
        return float(self.w * self.h)

    def shared(self, other: Box) -> float:
        """Area in both."""
        across = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        down = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        return float(max(0.0, across) * max(0.0, down))

    def overlap(self, other: Box) -> float:
        """Intersection over union, in [0, 1]."""
        shared = self.shared(other)
        return shared / max(self.area + other.area - shared, 1e-9)


def residual_motion(before: Frame, after: Frame) -> tuple[Float32[np.ndarray, "h w"], float]:
    """How far every pixel of a frame moves beyond what the camera does, and how many pixels of the frame a pixel is.

    Dense optical flow (DIS) between two frames; the homography that most points of a grid follow (RANSAC) is taken for
    the camera's. The paper removes the camera's motion from improved trajectories, which need the same two parts.

    Returns
    -------
    motion : length of the rest in pixels of the working size, whose longer side has at most 320.
    scale : pixels of the frame for each.
    """
    cv2 = opencv("mining tracks")
    scale = max(1.0, max(before.shape[:2]) / WORKING_SIDE)
    size = (max(16, round(before.shape[1] / scale)), max(16, round(before.shape[0] / scale)))
    small = [
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for frame in (before, after)
    ]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*small, None)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    start = np.stack([columns, rows], axis=2)
    points, ends = (field[GRID // 2 :: GRID, GRID // 2 :: GRID].reshape(-1, 2) for field in (start, start + flow))
    cv2.setRNGSeed(0)
    camera, _ = cv2.findHomography(points, ends, cv2.RANSAC, 1.0)
    moved = start if camera is None else cv2.perspectiveTransform(start.reshape(-1, 1, 2), camera).reshape(start.shape)
    return np.linalg.norm(start + flow - moved, axis=2).astype(np.float32), scale


def moving_boxes(
    before: Frame,
    now: Frame,
    after: Frame,
    *,
    regions: int = 1,
    motion: float = 1.0,
    least: int = 32,
    most: float = 0.5,
) -> list[Box]:
    """Boxes round what moves by itself in the middle one of three frames, that with most motion first.

    A pixel moves where what is left of its motion, to the frame before and to the one after, exceeds `motion` and four
    times the median of the frame, which is noise. Both must: beside a thing there is ground that it covers in one of
    them, whose motion cannot be told. Neighbouring pixels that move make a region.

    Parameters
    ----------
    before, now, after : frames of a video, a few frames from each other.
    regions : most boxes.
    motion : least motion in pixels at the working size, whose longer side has at most 320.
    least : smallest side of a box in pixels of the frame.
    most : largest share of the frame that a box covers, in (0, 1].

    Returns
    -------
    list
        In the frame `now`. Empty where nothing moves, or where more than half of the frame does (a cut, or a camera
        whose motion could not be told).
    """
    cv2 = opencv("mining tracks")
    lengths = [residual_motion(now, other) for other in (before, after)]
    scale = lengths[0][1]
    length = np.minimum(lengths[0][0], lengths[1][0])
    moving = np.logical_and.reduce([each > max(motion, 4 * float(np.median(each))) for each, _ in lengths])
    if moving.mean() > 0.5:
        return []
    kernel = np.ones((5, 5), np.uint8)
    mask = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    found = []
    for box, part in _regions(mask):
        whole = Box(*(scale * side for side in box))
        if min(whole.w, whole.h) >= least and whole.area <= most * now.shape[0] * now.shape[1]:
            found.append((float(length[part].sum()), whole))
    return [box for _, box in sorted(found, key=lambda each: -each[0])[:regions]]


def _regions(mask: Any) -> list[tuple[tuple[int, int, int, int], Bool[np.ndarray, "h w"]]]:
    count, labels, stats, _ = opencv("mining tracks").connectedComponentsWithStats(mask, connectivity=8)
    return [(tuple(stats[k, :4].tolist()), labels == k) for k in range(1, count)]


def follow(frames: Frames, box: Box, *, tracker: Tracker = "csrt") -> list[Box]:
    """Where a tracker sees the box in each frame, from the first; it ends where the tracker loses it, or where less
    than 70 % of it are in the frame.

    Parameters
    ----------
    frames : of one video, in order.
    box : in the first.
    tracker : "csrt", which follows changes of size, or "kcf" (the paper's), of constant size.
    """
    cv2 = opencv("mining tracks")
    height, width = frames[0].shape[:2]
    inside = Box(0, 0, width, height)
    made = cv2.TrackerKCF_create() if tracker == "kcf" else cv2.TrackerCSRT_create()
    left, top = max(0, round(box.x)), max(0, round(box.y))
    made.init(frames[0], (left, top, min(width - left, round(box.w)), min(height - top, round(box.h))))
    path = [box]
    for frame in frames[1:]:
        there, at = made.update(frame)
        if not there:
            break
        now = Box(*map(float, at))
        if now.shared(inside) < 0.7 * now.area:
            break
        path.append(now)
    return path


def returns(frames: Frames, path: Sequence[Box], *, tracker: Tracker = "csrt", least: float = 0.3) -> bool:
    """Whether following the end of a path back through the frames leads to where it began: else it has drifted.

    Parameters
    ----------
    frames : those of the path.
    path : a box in each, from `follow`.
    least : overlap (intersection over union) with the first box, in [0, 1].
    """
    back = follow(frames[::-1], path[-1], tracker=tracker)
    return len(back) == len(path) and bool(back[-1].overlap(path[0]) >= least)


def moves_in(before: Frame, after: Frame, box: Box, *, motion: float = 1.0, share: float = 0.05) -> bool:
    """Whether something in the box still moves by itself: else the tracker has slipped to the ground.

    Parameters
    ----------
    before, after : two frames, a few frames apart.
    box : in the first.
    motion : see `moving_boxes`.
    share : of the pixels of the box that must move, in [0, 1].
    """
    length, scale = residual_motion(before, after)
    left, top = (max(0, round(side / scale)) for side in (box.x, box.y))
    inside = length[top : round((box.y + box.h) / scale), left : round((box.x + box.w) / scale)]
    return inside.size > 0 and float((inside > max(motion, 4 * float(np.median(length)))).mean()) >= share
