"""Finds places for labels beside marks, so that nothing covers anything. All lengths are in points."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Rounds in which each label in turn takes the best place that the others leave it.
ROUNDS = 8
_STEPS = 9  # how far a label may go, in its own heights
_COVERS, _OUTSIDE, _CROSSES, _FAR = 1.0, 20.0, 30.0, 1.2  # what a square point, a crossing, a point of way costs


@dataclass(frozen=True)
class Box:
    """A rectangle: left, bottom, right, top."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True)
class Place:
    """Where a label goes.

    Attributes:
        x: of its left edge.
        y: of its lower edge.
        leader: (x, y) from which a line should lead to the mark, if the label does not stand right beside it.
    """

    x: float
    y: float
    leader: tuple[float, float] | None


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    bounds: Box,
    *,
    gap: float,
) -> list[Place]:
    """A place for each label: near its mark, inside the bounds, clear of obstacles and of other labels if that can be.

    The same input gives the same places.

    Args:
        anchors: (x, y) of the middle of each label's mark.
        sizes: (width, height) of each label.
        obstacles: what is not to be covered, the marks themselves included.
        bounds: what is not to be left.
        gap: from the middle of a mark to its label.
    """
    if not anchors:
        return []
    tries = [_candidates(*anchor, *size, gap) for anchor, size in zip(anchors, sizes, strict=True)]
    blocks = np.array([[b.left, b.bottom, b.right, b.top] for b in obstacles]).reshape(-1, 4)
    costs = []
    for (x, y), (boxes, ends, way) in zip(anchors, tries, strict=True):
        # The mark's own box lies at the line's end.
        others = blocks[~((blocks[:, 0] <= x) & (x <= blocks[:, 2]) & (blocks[:, 1] <= y) & (y <= blocks[:, 3]))]
        costs.append(
            _COVERS * _overlap(boxes, blocks).sum(1)
            + _OUTSIDE * _outside(boxes, bounds)
            + _CROSSES * _crossed(np.array([x, y]), ends, others).sum(1) * (way > gap)
            + _FAR * way
        )
    chosen = [int(cost.argmin()) for cost in costs]
    for _ in range(ROUNDS):
        before = list(chosen)
        for i, ((boxes, ends, way), cost) in enumerate(zip(tries, costs, strict=True)):
            rest = [j for j in range(len(tries)) if j != i]
            labels = np.array([tries[j][0][chosen[j]] for j in rest]).reshape(-1, 4)
            lines = _CROSSES * _crossed(np.array(anchors[i]), ends, labels).sum(1) * (way > gap)
            # And not upon the line that leads to another's mark.
            led = [(np.array(anchors[j]), tries[j][1][chosen[j]]) for j in rest if tries[j][2][chosen[j]] > gap]
            upon = sum((_crossed(a, e[None], boxes)[0] for a, e in led), np.zeros(len(boxes)))
            total = cost + 4 * _COVERS * _overlap(boxes, labels).sum(1) + lines + _CROSSES * upon
            chosen[i] = int(total.argmin())
        if chosen == before:
            break
    places = []
    for (boxes, ends, way), k in zip(tries, chosen, strict=True):
        leader = (float(ends[k, 0]), float(ends[k, 1])) if way[k] > gap else None
        places.append(Place(float(boxes[k, 0]), float(boxes[k, 1]), leader))
    return places


def _candidates(x: float, y: float, w: float, h: float, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (n, 4), where a line to the mark would begin (n, 2), how far and how unusual each place is (n,))."""
    boxes, ends, way = [], [], []
    shifts = [sign * step * h / 2 for step in range(2 * _STEPS) for sign in (1, -1)][1:]
    for out in (0.0, 6.0, 14.0):
        for dy in shifts:
            for side, dislike in ((1, 0.0), (-1, 1.5)):
                near = x + side * (gap + out)
                boxes.append((near, y + dy - h / 2, near + w, y + dy + h / 2) if side > 0 else
                             (near - w, y + dy - h / 2, near, y + dy + h / 2))  # fmt: skip
                ends.append((near - side * 1.5, y + dy))
                way.append(abs(dy) + 1.5 * out + dislike)
    for step in range(_STEPS):
        for side in (1, -1):
            for dx in (0.0, w / 3, -w / 3):
                near = y + side * (gap + step * h / 2)
                low = near if side > 0 else near - h
                boxes.append((x + dx - w / 2, low, x + dx + w / 2, low + h))
                ends.append((x + dx * 0.5, near - side * 1.0))
                way.append(2.0 + step * h / 2 + abs(dx) * 0.1)
    return np.array(boxes), np.array(ends), np.array(way)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that each of (n, 4) shares with each of (m, 4): (n, m)."""
    across = np.minimum(boxes[:, None, 2], others[None, :, 2]) - np.maximum(boxes[:, None, 0], others[None, :, 0])
    down = np.minimum(boxes[:, None, 3], others[None, :, 3]) - np.maximum(boxes[:, None, 1], others[None, :, 1])
    return np.maximum(across, 0) * np.maximum(down, 0)


def _outside(boxes: np.ndarray, bounds: Box) -> np.ndarray:
    """By how much each of (n, 4) leaves the bounds: (n,)."""
    beyond = np.stack(
        [bounds.left - boxes[:, 0], bounds.bottom - boxes[:, 1], boxes[:, 2] - bounds.right, boxes[:, 3] - bounds.top]
    )
    return np.maximum(beyond, 0).sum(0)


def _crossed(start: np.ndarray, ends: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether the line from ``start`` to each of (n, 2) passes through each of (m, 4): (n, m)."""
    along = np.linspace(0.15, 0.95, 12)[None, :, None]
    points = start + along * (ends[:, None, :] - start)
    x, y = points[:, :, None, 0], points[:, :, None, 1]
    inside = (boxes[:, 0] < x) & (x < boxes[:, 2]) & (boxes[:, 1] < y) & (y < boxes[:, 3])
    return np.asarray(inside.any(1))
