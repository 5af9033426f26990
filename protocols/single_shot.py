"""CMC over galleries of one image for each identity, drawn at random: sampled, and exactly expected.

For each query, junk and what its camera leaves out is removed; of the images that remain, one of each
identity is drawn, each with the same chance.

The expectation needs no drawing. A true match at distance d is drawn with chance 1/n, and another
identity's image is nearer with chance f, the share of its counting images that are; the identities are
drawn independently, so the number of nearer ones is a sum of independent yes-or-no events (a
Poisson-binomial number), and the chance of each rank follows by a short recursion.

Sampling draws one lot for every image and repeat; of each identity the counting image with the lowest
lot is in the gallery. So all queries of a repeat are asked in one gallery wherever the same images
count for them. Lots depend on the protocol, the split, the repeat, the seed, the identity and the
image's position among those of its identity, and on nothing else: neither on blocks of queries nor on
where other identities stand.

Images with a distractor's label show many persons, so each of them is an identity of its own and in
every gallery (Market-1501 alone has such labels).
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protocols.base import Rules, SingleShot
from protocols.metrics import Floats, bounds, reported
from protocols.ranking import Ints, Labels, in_full_precision, in_shares

if TYPE_CHECKING:
    from protocols.ranking import Distances

Lots = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SingleShotScores:
    """What single-gallery-shot CMC says of one ranking, in percent.

    Attributes:
        metrics: ``rank1``, ... exactly expected; ``rank1_sampled``, ... the mean over repeats, and
            ``rank1_sampled_std``, ... their sample deviation where there are two or more.
        bounds: of the expected values that depend on the order of equal distances, the worst and the best.
        cmc: (max_rank,) the expected curve.
        sampled: (R, max_rank) the curve of each repeat.
        rank1: (Q,) the expected rank-1 of each query, NaN without a match.
    """

    metrics: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    cmc: Floats
    sampled: Floats
    rank1: Floats


class SingleShotRanking:
    """Takes one block of queries after the other, as ``protocols.ranking.Ranking`` does.

    Args:
        query: labels of the Q queries.
        gallery: labels of the G gallery images.
        rules: what does not count for a query, and how far the curve goes.
        single_shot: whether each query has a voice or one drawn query of each identity.
        names: what the draws depend on besides the repeat: protocol, split, seed.
    """

    def __init__(
        self, query: Labels, gallery: Labels, rules: Rules, single_shot: SingleShot, names: tuple[object, ...]
    ) -> None:
        self._query, self._gallery, self._rules, self._single_shot = query, gallery, rules, single_shot
        self._numbers, self._own, self._identities = identity_numbers(query, gallery, rules)
        repeats = range(single_shot.repeats)
        self._lots = np.stack([lots(gallery.pids, *names, repeat, "gallery") for repeat in repeats])
        self._probe_lots = np.stack([lots(query.pids, *names, repeat, "query") for repeat in repeats])
        self._expected = np.empty((3, len(query), rules.max_rank))
        self._ranks = np.empty((single_shot.repeats, len(query)), np.int64)

    def add(self, start: int, block: "Distances") -> None:
        """Take the distances (B, G) of queries ``start``, ..."""
        block = in_full_precision(block)
        rows = np.ascontiguousarray(block if isinstance(block, np.ndarray) else block.cpu().numpy())
        in_shares(lambda first, end: self._add_share(start + first, rows[first:end]), len(rows))

    def _add_share(self, start: int, rows: NDArray[np.floating]) -> None:
        from protocols.single_shot_loops import drawn_ranks, expected_cmc  # compile on first use

        part = slice(start, start + len(rows))
        problem = (
            rows,
            (self._own[part], self._query.pids[part], self._query.camids[part]),
            (self._numbers, self._gallery.pids, self._gallery.camids),
            self._rules.same_camera == "all",
            self._identities,
        )
        self._ranks[:, part] = drawn_ranks(*problem, self._lots)
        self._expected[0, part], tied = expected_cmc(*problem, self._rules.max_rank, 0)
        for order, ties in ((1, 1), (2, -1)):
            self._expected[order, part] = (
                expected_cmc(*problem, self._rules.max_rank, ties)[0] if tied else self._expected[0, part]
            )

    def scores(self) -> SingleShotScores:
        """The result, once every query was added."""
        asked = np.flatnonzero((self._ranks[0] > 0) | (self._rules.matchless == "zero"))
        usual, worst, best = (
            self._mean_by_voice(np.nan_to_num(curves[asked]), asked) for curves in self._expected
        )
        sampled = np.stack([self._sampled(repeat, asked) for repeat in range(len(self._ranks))])
        metrics = reported(usual) | reported(sampled.mean(0), "_sampled")
        if len(sampled) > 1:
            metrics |= reported(sampled.std(0, ddof=1), "_sampled_std")
        return SingleShotScores(
            metrics,
            bounds(reported(usual), reported(worst), reported(best)),
            usual,
            sampled,
            rank1=100 * self._expected[0, :, 0],
        )

    def _mean_by_voice(self, curves: Floats, asked: Ints) -> Floats:
        """Percent: the mean over queries, or of each identity's mean over identities."""
        if self._single_shot.probe == "every":
            mean: Floats = 100 * curves.mean(0)
            return mean
        _, identity, size = np.unique(self._query.pids[asked], return_inverse=True, return_counts=True)
        weights = 1 / (size[identity] * len(size))
        weighted: Floats = 100 * (weights @ curves)
        return weighted

    def _sampled(self, repeat: int, asked: Ints) -> Floats:
        """(max_rank,) percent, the curve of one repeat."""
        if self._single_shot.probe == "drawn":
            by_lot = asked[np.lexsort((self._probe_lots[repeat][asked], self._query.pids[asked]))]
            asked = by_lot[np.unique(self._query.pids[by_lot], return_index=True)[1]]
        rank = self._ranks[repeat][asked]
        curve: Floats = 100 * ((rank > 0) & (rank <= np.arange(1, self._rules.max_rank + 1)[:, None])).mean(1)
        return curve


def identity_numbers(query: Labels, gallery: Labels, rules: Rules) -> tuple[Ints, Ints, int]:
    """Identities of the gallery as 0..n-1.

    Returns:
        (G,) number of each gallery image, -1 for junk, one of its own for each distractor; (Q,) that
        of each query, -1 where the gallery has none; and n.
    """
    junk = np.isin(gallery.pids, rules.junk_pids)
    alone = np.isin(gallery.pids, rules.distractor_pids) & ~junk
    known, number = np.unique(gallery.pids[~junk & ~alone], return_inverse=True)
    numbers = np.full(len(gallery), -1, np.int64)
    numbers[~junk & ~alone] = number
    numbers[alone] = len(known) + np.arange(alone.sum())
    place = np.searchsorted(known, query.pids)
    there = np.isin(query.pids, known)
    return numbers, np.where(there, place, -1).astype(np.int64), len(known) + int(alone.sum())


def lots(pids: Ints, *names: object) -> Lots:
    """(N,) a random number of 64 bits for each image, from ``names``, its identity and its position there.

    Numbers are hashed and not drawn from a generator, whose stream may change between versions.
    """
    order = np.argsort(pids, kind="stable")
    _, opens, size = np.unique(pids[order], return_index=True, return_counts=True)
    nth = np.empty(len(pids), np.uint64)
    nth[order] = np.arange(len(pids)) - np.repeat(opens, size)
    digest = sha256("/".join(map(str, names)).encode()).digest()
    return _mixed(_mixed(pids.astype(np.uint64) ^ np.uint64(int.from_bytes(digest[:8], "little"))) + nth)


def _mixed(numbers: Lots) -> Lots:
    """Every bit of each number spread over all bits of another: one step of SplitMix64."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
