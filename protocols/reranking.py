"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao, Li, CVPR 2017), sparse.

All N = Q + G images, queries first, are each other's neighbours. With d(i, j) the squared Euclidean
distance divided by the largest one of image i (equations of the paper, section 3):

- R(i, k): those of the k + 1 nearest images of i, itself included, that have i among theirs (3);
- R*(i, k1): R(i, k1) with each R(j, k1/2), j in R(i, k1), of which more than two thirds lie in
  R(i, k1) (4, which says at least);
- V_i, one number per image: exp(-d(i, j)) for j in R*(i, k1), else 0 (7), divided by their sum;
- local query expansion: V_i becomes the mean of V over the k2 nearest images of i (11);
- Jaccard distance of i and j: 1 - s / (2 - s), where s is the sum of min(V_i, V_j) (10);
- the result is (1 - lambda) Jaccard + lambda d (12).

Where the authors' Python code, which deep re-ID repositories carry, and their MATLAB code differ, this
is the Python one: k1/2 stands for the around(k1 / 2) + 1 nearest, halves to even, which is one more
than MATLAB's round((k1 + 1) / 2) for k1 = 3, 7, 11, ...; and images are ordered by the distance after
its division, which can make two equal. Equal distances are ordered by index, which neither says.

The result is the Python code's to the bit where the distances are: float32 throughout; weights by
NumPy's exp and sum; the k2 encodings added nearest first; the minima added by ascending image. Only
a block of rows of the distances is held at a time, and of the encodings what is not 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.features import describe_pair, joined
from protocols.precision import full_products
from protocols.ranking import in_shares

if TYPE_CHECKING:
    import torch

    from protocols.ranking import Distances

    Features: TypeAlias = NDArray[np.floating] | torch.Tensor

Floats: TypeAlias = NDArray[np.float32]
Images: TypeAlias = NDArray[np.int32]
Sparse: TypeAlias = Any
"""A scipy ``csr_array`` or ``csc_array`` of float32, which scipy leaves untyped."""

BLOCK_BYTES = 32 * 2**20
"""Memory for one block of float32 distances while neighbours are sought."""


def rerank(
    query: "Features", gallery: "Features", *, k1: int = 20, k2: int = 6, lambda_: float = 0.3
) -> "Reranked":
    """Re-rank by the squared Euclidean distance of features, taken as they are.

    For the cosine distance normalise the features to length 1, which makes one twice the other::

        ranks = rank_matches(rerank(query, gallery), query_labels, gallery_labels, rules)

    Every image that is handed over may be a neighbour: leave junk out, as code does that drops it while
    it reads files (``protocols.evaluate`` does, so that junk changes no number there).

    The neighbours are sought where torch features lie, the rest is done on the CPU. All arithmetic is
    float32, whatever the features are. Distances in the weights are sums of squared differences, all
    others come from products, |a|^2 - 2 a.b + |b|^2; the two differ by rounding alone.

    Args:
        query: (Q, d), NumPy or torch.
        gallery: (G, d), likewise and on the same device.
        k1: size of the reciprocal neighbourhood; from N - 1 on it is everything.
        k2: size of the local query expansion; 1 leaves it out.
        lambda_: weight of the distance beside the Jaccard distance.

    Raises:
        ValueError: the features are no two matrices of one width, hold a value that is not finite, or
            are all the same; or k1, k2 or lambda_ is out of range.
    """
    lists = describe_pair(query, gallery, "euclidean")
    images = joined(lists, [np.ones(len(features), bool) for features in lists], unit=False)
    return rerank_joined(images, len(lists[0]), k1=k1, k2=k2, lambda_=lambda_)


def rerank_joined(
    images: "Features", queries: int, *, k1: int = 20, k2: int = 6, lambda_: float = 0.3
) -> "Reranked":
    """As ``rerank``, of features that stand in one array of finite float32, which is not copied.

    Args:
        images: (N, d), queries first.
        queries: how many.
        k1: as for ``rerank``.
        k2: as for ``rerank``.
        lambda_: as for ``rerank``.
    """
    import torch

    features = torch.as_tensor(images)
    source = _FromFeatures(features, features.square().sum(1))
    return _rerank(source, queries, len(features), k1, k2, lambda_)


def rerank_distances(
    distances: Callable[[int, int], "Distances"],
    queries: int,
    images: int,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
) -> "Reranked":
    """Re-rank by given distances, for scorers of pairs.

    The distances enter as they are. The algorithm was made for squared Euclidean ones; code that
    squares those again, as torchreid's evaluation does, is had by giving them squared twice.

    Args:
        distances: ``distances(start, stop)`` gives those of images start..stop-1 to all images,
            shape (stop - start, N), smaller is more alike, symmetric; images 0..queries-1 are the
            queries. It is asked for every row twice, and for a query's again whenever the result is.
        queries: Q.
        images: N, queries and gallery together.
        k1: as for ``rerank``.
        k2: as for ``rerank``.
        lambda_: as for ``rerank``.

    Raises:
        ValueError: a block has another shape than asked for, a distance is not finite, or the largest
            one of an image is not positive; or k1, k2 or lambda_ is out of range.
    """
    return _rerank(_Given(distances, images), queries, images, k1, k2, lambda_)


@dataclass(frozen=True, slots=True)
class Reranked:
    """Re-ranked distances of Q queries to G gallery images, made when they are asked for.

    Attributes:
        source: where the distances before re-ranking come from.
        peaks: (Q,) largest distance of each query to any image.
        queries: (Q, N) encodings of the queries, by rows.
        gallery: (G, N) encodings of the gallery, by columns.
        lambda_: weight of the distance beside the Jaccard distance.
    """

    source: "_Source"
    peaks: Floats
    queries: Sparse
    gallery: Sparse
    lambda_: float

    def __call__(self, start: int, stop: int) -> Floats:
        """(stop - start, G) distances of queries start..stop-1 to the gallery; smaller is more alike."""
        from protocols.reranking_loops import blend  # compiles on first use

        if not 0 <= start <= stop <= len(self.peaks):
            raise ValueError(f"queries {start}..{stop - 1} asked for, there are {len(self.peaks)}")
        distances = _as_floats(self.source.rows(start, stop, len(self.peaks)))
        reranked = np.empty_like(distances)

        def blend_share(first: int, last: int) -> None:
            encodings = self.queries[start + first : start + last]
            blend(
                distances[first:last],
                self.peaks[start + first : start + last],
                (encodings.indptr, encodings.indices, encodings.data),
                (self.gallery.indptr, self.gallery.indices, self.gallery.data),
                self.lambda_,
                reranked[first:last],
            )

        in_shares(blend_share, stop - start)
        return reranked


class _Source(Protocol):
    """Distances between all images, before re-ranking."""

    def rows(self, start: int, stop: int, first: int = 0) -> "Distances":
        """(stop - start, N - first) distances of images start..stop-1 to images first..N-1."""

    def pairs(self, sets: Sparse) -> Floats:
        """The distance at each entry of ``sets``."""


@dataclass(frozen=True, slots=True)
class _FromFeatures:
    """Squared Euclidean distances; ``squares`` are the squared lengths of the features."""

    features: "torch.Tensor"
    squares: "torch.Tensor"

    def rows(self, start: int, stop: int, first: int = 0) -> "torch.Tensor":
        """|a|^2 - 2 a.b + |b|^2, never below 0; in place, as memory is slower than the product."""
        import torch

        with full_products(self.features.device.type):
            products = torch.addmm(
                self.squares[first:], self.features[start:stop], self.features[first:].T, alpha=-2
            )
        return products.add_(self.squares[start:stop, None]).clamp_min_(0)

    def pairs(self, sets: Sparse) -> Floats:
        """|a - b|^2: a few pairs cost less than all products a second time."""
        from protocols.reranking_loops import pair_distances  # compiles on first use

        features = self.features.cpu().numpy()
        parts = in_shares(
            lambda start, stop: pair_distances(features, sets.indptr, sets.indices, start, stop),
            len(features),
        )
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class _Given:
    """Distances of a function of the caller's between ``images`` images."""

    distances: Callable[[int, int], "Distances"]
    images: int

    def rows(self, start: int, stop: int, first: int = 0) -> "Distances":
        block = self.distances(start, stop)
        if tuple(block.shape) != (stop - start, self.images):
            raise ValueError(
                f"distances({start}, {stop}) has the shape {tuple(block.shape)}, "
                f"expected {(stop - start, self.images)} (images, queries and gallery)"
            )
        return block[:, first:]

    def pairs(self, sets: Sparse) -> Floats:
        values = np.empty(sets.nnz, np.float32)
        for start, stop in _blocks(self.images):
            ends = sets.indptr[start : stop + 1]
            row = np.repeat(np.arange(stop - start), np.diff(ends))
            part = slice(ends[0], ends[-1])
            values[part] = _as_floats(self.rows(start, stop))[row, sets.indices[part]]
        return values


def _rerank(source: _Source, queries: int, images: int, k1: int, k2: int, lambda_: float) -> Reranked:
    _check_parameters(queries, images, k1, k2, lambda_)
    neighbours, peaks = _neighbours(source, queries, images, max(k1 + 1, k2))
    sets = _expanded_sets(neighbours, k1)
    encodings = _encoded(sets, source.pairs(sets), peaks)
    if k2 > 1:
        encodings = _query_expanded(encodings, neighbours[:, :k2])
    return Reranked(source, peaks[:queries], encodings[:queries], encodings[queries:].tocsc(), lambda_)


def _neighbours(source: _Source, queries: int, images: int, k: int) -> tuple[Images, Floats]:
    """(N, min(k, N)) nearest images of every image, itself included; (N,) its largest distance."""
    nearest = np.empty((images, min(k, images)), np.int32)
    peaks = np.empty(images, np.float32)
    for start, stop in _blocks(images):
        nearest[start:stop], peaks[start:stop] = _nearest(source.rows(start, stop), nearest.shape[1])
        _check_peaks(peaks[start:stop], start, queries)
    return nearest, peaks


def _nearest(block: "Distances", k: int) -> tuple[Images, Floats]:
    if not isinstance(block, np.ndarray) and block.is_cuda:
        return _nearest_torch(block, k)
    from protocols.reranking_loops import nearest  # compiles on first use

    rows = _as_floats(block)
    indices, peaks = zip(*in_shares(lambda start, stop: nearest(rows[start:stop], k), len(rows)), strict=True)
    return np.concatenate(indices), np.concatenate(peaks)


def _nearest_torch(block: "torch.Tensor", k: int) -> tuple[Images, Floats]:
    """The same on the GPU, where ``topk`` leaves the order of ties open: each key holds its index.

    The upper half of a key is the distance's bits, as an integer that is ordered as the distance is.
    """
    import torch

    block = block.float()
    peaks = block.amax(1).where(block.isfinite().all(1), torch.nan)
    bits = (block / peaks[:, None] + 0.0).view(torch.int32).long()  # + 0.0: -0.0 is 0.0
    keys = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32
    keys |= torch.arange(block.shape[1], device=block.device)
    index = keys.topk(k, largest=False).values & 0xFFFFFFFF
    return index.int().cpu().numpy(), peaks.cpu().numpy()


def _expanded_sets(neighbours: Images, k1: int) -> Sparse:
    """(N, N), an entry of 1 where image j is in R*(i, k1)."""
    from scipy.sparse import csr_array

    from protocols.reranking_loops import expand  # compiles on first use

    images = len(neighbours)
    core = _reciprocal(neighbours[:, : k1 + 1])
    half = _reciprocal(neighbours[:, : round(k1 / 2) + 1])  # halves to even, as np.around
    parts = in_shares(lambda start, stop: expand(*core, *half, start, stop), images)
    sizes, columns = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    ends = np.concatenate(([0], np.cumsum(sizes)))
    return csr_array((np.ones(len(columns), np.float32), columns, ends), shape=(images, images))


def _reciprocal(neighbours: Images) -> tuple[Images, Images]:
    """Those neighbours that are reciprocal, in the first ``sizes[i]`` columns; and the sizes."""
    from protocols.reranking_loops import reciprocal  # compiles on first use

    neighbours = np.ascontiguousarray(neighbours)
    parts = in_shares(lambda start, stop: reciprocal(neighbours, start, stop), len(neighbours))
    members, sizes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return members, sizes


def _encoded(sets: Sparse, distances: Floats, peaks: Floats) -> Sparse:
    """V before query expansion: exp(-distance / peak) at the entries of ``sets``; rows add up to 1."""
    sizes = np.diff(sets.indptr)
    weights = np.exp(-(distances / peaks.repeat(sizes)))
    rows = zip(sets.indptr[:-1], sets.indptr[1:], strict=True)
    sums = [np.add.reduce(weights[start:stop]) for start, stop in rows]  # rounds as np.sum does
    sets.data = weights / np.array(sums, np.float32).repeat(sizes)
    return sets


def _query_expanded(encodings: Sparse, neighbours: Images) -> Sparse:
    """The mean encoding of each image's k2 nearest; the product adds them in the order given."""
    from scipy.sparse import csr_array

    images, k2 = neighbours.shape
    ends = np.arange(0, images * k2 + 1, k2)
    chosen = csr_array((np.ones(images * k2, np.float32), neighbours.ravel(), ends), shape=(images, images))
    expanded = chosen @ encodings
    expanded.data /= np.float32(k2)
    expanded.sort_indices()
    return expanded


def _blocks(images: int) -> list[tuple[int, int]]:
    """The same blocks of rows each time, so that a caller's products are rounded alike."""
    rows = max(1, BLOCK_BYTES // (4 * images))
    return [(start, min(start + rows, images)) for start in range(0, images, rows)]


def _as_floats(block: "Distances") -> Floats:
    """A block as contiguous float32 on the CPU, itself if it is that."""
    if not isinstance(block, np.ndarray):
        block = block.detach().float().cpu().numpy()
    return np.ascontiguousarray(block, np.float32)


def _check_parameters(queries: int, images: int, k1: int, k2: int, lambda_: float) -> None:
    if not 1 <= queries < images:
        raise ValueError(
            f"{queries} queries among {images} images, expected at least one, and a gallery image"
        )
    for name, value in {"k1": k1, "k2": k2}.items():
        if value < 1:
            raise ValueError(f"{name} = {value}, expected at least 1")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_ = {lambda_}, expected a number from 0 to 1")


def _check_peaks(peaks: Floats, start: int, queries: int) -> None:
    """Every image needs a largest distance to divide by."""
    unfit = ~(peaks > 0)
    if not unfit.any():
        return
    first = int(unfit.argmax())
    image = start + first
    name = f"query {image}" if image < queries else f"gallery image {image - queries}"
    if np.isnan(peaks[first]):
        raise ValueError(f"the distances of {name} hold values that are not finite")
    raise ValueError(f"the largest distance of {name} is {peaks[first]}, expected a positive number")
