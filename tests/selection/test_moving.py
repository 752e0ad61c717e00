"""What moves in a video is found while the camera moves too, followed, and let go when it is lost."""

from __future__ import annotations

import numpy as np
import pytest

from autodidact.selection.moving import Box, follow, moves_in, moving_boxes, residual_motion, returns
from autodidact.worlds.clips import Clip, clip

GAP = 3


def found(made: Clip, **options):
    return moving_boxes(made.frames[0], made.frames[GAP], made.frames[2 * GAP], **options)


def truth(made: Clip, frame: int) -> Box:
    return Box(*made.boxes[frame])


def test_overlap_is_intersection_over_union():
    box = Box(0, 0, 4, 2)
    assert box.overlap(box) == pytest.approx(1)
    assert box.overlap(Box(2, 0, 4, 2)) == pytest.approx(4 / 12)
    assert box.overlap(Box(4, 0, 1, 1)) == box.overlap(Box(0, 5, 1, 1)) == 0


def test_a_thing_that_moves_is_found_where_it_is_although_the_camera_moves_too():
    overlaps = []
    for seed in range(6):
        made = clip(2 * GAP + 1, seed=seed)
        (box,) = found(made)
        overlaps.append(box.overlap(truth(made, GAP)))
    assert np.mean(overlaps) > 0.5
    assert min(overlaps) > 0.3


@pytest.mark.parametrize("how", [{"size": 0}, {"speed": 0, "camera": 0, "growth": 0}])
def test_neither_a_camera_that_moves_nor_noise_is_a_thing_that_moves(how):
    assert [box for seed in range(4) for box in found(clip(2 * GAP + 1, seed=seed, **how))] == []


def test_what_is_left_of_the_motion_of_a_picture_that_shifts_is_far_less_than_the_shift():
    still = clip(5, size=0, camera=2.0, noise=0.0, seed=1)
    length, scale = residual_motion(still.frames[0], still.frames[4])
    assert scale == 1
    assert length.shape == (180, 240)
    assert np.median(length) < 0.3  # of 8 pixels


def test_a_cut_is_not_taken_for_motion():
    one, other = clip(2 * GAP + 1, seed=0), clip(1, seed=3)
    assert moving_boxes(one.frames[0], one.frames[GAP], other.frames[0]) == []


def test_boxes_that_are_too_small_or_too_large_are_left_out_and_so_is_what_is_more_than_asked_for():
    made = clip(2 * GAP + 1, seed=1)
    (box,) = found(made)
    assert found(made, least=round(min(box.w, box.h)) + 1) == []
    assert found(made, most=0.9 * box.area / (180 * 240)) == []
    assert found(made, regions=5)[0] == box
    assert found(made, motion=50.0) == []


def test_a_tracker_stays_on_a_thing_and_leads_back_to_where_it_began():
    made = clip(20, seed=1)
    path = follow(made.frames, truth(made, 0))
    assert len(path) == 20
    assert np.mean([box.overlap(truth(made, k)) for k, box in enumerate(path)]) > 0.6
    assert returns(made.frames, path)
    away = [*path[:-1], Box(5, 5, path[-1].w, path[-1].h)]
    assert not returns(made.frames, away)


def test_a_path_ends_where_the_thing_leaves_the_picture():
    made = clip(20, width=400, camera=0.0, speed=0.0, growth=0.0, seed=1)
    x, y, w, h = made.boxes[0].round().astype(int).tolist()
    # A window that slides to the right over a still picture: the thing leaves it to the left.
    shown = [np.ascontiguousarray(frame[:, max(0, x - 60) + 10 * k :][:, :200]) for k, frame in enumerate(made.frames)]
    path = follow(shown, Box(x - max(0, x - 60), y, w, h))
    assert 5 <= len(path) <= 10


def test_a_box_on_ground_that_stays_with_the_camera_does_not_move_by_itself():
    made = clip(10, seed=1)
    box = truth(made, 5)
    assert moves_in(made.frames[5], made.frames[5 - GAP], box)
    ground = Box(240 - box.x - box.w, 180 - box.y - box.h, box.w, box.h)
    assert ground.shared(box) == 0
    assert not moves_in(made.frames[5], made.frames[5 - GAP], ground)


def test_the_papers_tracker_follows_as_well():
    made = clip(6, seed=1, growth=0.0)
    path = follow(made.frames, truth(made, 0), tracker="kcf")
    assert path[-1].overlap(truth(made, len(path) - 1)) > 0.5
