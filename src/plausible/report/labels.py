"""Finds places for labels beside marks, so that nothing covers anything. All lengths are in points."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

#: Rounds in which each label in turn takes the best place that the others leave it.
ROUNDS = 8
#: Other orders to try where labels still lie upon each other.
ORDERS = 40
_STEPS = 9  # how far a label may go, in its own heights
_COVERS, _OUTSIDE, _CROSSES, _FAR = 1.0, 20.0, 30.0, 1.2  # what a square point, a crossing, a point of way costs
_TOUCHES = 100.0  # what it costs to lie upon another label at all


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
    spots = _Spots(anchors, tries, costs, gap)
    best, least = spots.settle(range(len(tries)))
    shuffled = np.random.default_rng(0)
    for _ in range(ORDERS):
        if not spots.covered(best):
            break
        chosen, total = spots.settle(shuffled.permutation(len(tries)))
        if total < least:
            best, least = chosen, total
    places = []
    for (boxes, ends, way), k in zip(tries, best, strict=True):
        leader = (float(ends[k, 0]), float(ends[k, 1])) if way[k] > gap else None
        places.append(Place(float(boxes[k, 0]), float(boxes[k, 1]), leader))
    return places


@dataclass(frozen=True)
class _Spots:
    """Where each label may go, by its mark, and what that costs apart from the other labels."""

    anchors: Sequence[tuple[float, float]]
    tries: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
    costs: Sequence[np.ndarray]
    gap: float

    def settle(self, order: Iterable[int]) -> tuple[list[int], float]:
        """The choice after the labels have moved in this order until none gains by it, and what all of it costs."""
        order = list(order)
        chosen = [int(cost.argmin()) for cost in self.costs]
        for _ in range(ROUNDS):
            before = list(chosen)
            for i in order:
                chosen[i] = int(self._cost(i, chosen).argmin())
            if chosen == before:
                break
        return chosen, sum(float(self._cost(i, chosen)[k]) for i, k in enumerate(chosen))

    def covered(self, chosen: Sequence[int]) -> bool:
        """Whether any label lies upon another."""
        boxes = np.array([boxes[k] for (boxes, _, _), k in zip(self.tries, chosen, strict=True)])
        return bool((np.triu(_overlap(boxes, boxes), 1) > 0).any())

    def _cost(self, i: int, chosen: Sequence[int]) -> np.ndarray:
        """What each spot of a label costs while the others stay where they are."""
        boxes, ends, way = self.tries[i]
        rest = [j for j in range(len(self.tries)) if j != i]
        labels = np.array([self.tries[j][0][chosen[j]] for j in rest]).reshape(-1, 4)
        lines = _CROSSES * _crossed(np.array(self.anchors[i]), ends, labels).sum(1) * (way > self.gap)
        # And not upon the line that leads to another's mark.
        led = [(self.anchors[j], self.tries[j][1][chosen[j]]) for j in rest if self.tries[j][2][chosen[j]] > self.gap]
        upon = sum((_crossed(np.array(a), e[None], boxes)[0] for a, e in led), np.zeros(len(boxes)))
        shared = _overlap(boxes, labels)
        covers = 4 * _COVERS * shared.sum(1) + _TOUCHES * (shared > 0).sum(1)  # a little is as bad to read as much
        return self.costs[i] + covers + lines + _CROSSES * upon


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
