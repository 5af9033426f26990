"""What an evaluation says: numbers, how they came about, and what is odd about the input."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Literal

from protocols.arrays import InputError
from protocols.deviations import reach
from protocols.metrics import Floats
from protocols.per_query import per_query_table
from protocols.ranking import Labels, Ranks

if TYPE_CHECKING:
    from pandas import DataFrame

ShownAP = Literal["both", "step", "trapezoid"]

SINGLE_SHOT_NOTE = (
    "rank-k is exactly expected over all galleries of one image an identity, _sampled the mean over draws; "
    "_all_shots, mAP and mINP rank every image and leave out the query's own identity in its camera"
)


@dataclass(frozen=True, slots=True)
class Result:
    """One evaluation of one split; all metrics are percent, 0-100.

    Attributes:
        protocol: its name.
        title: the data set's name.
        source: where the rules are stated.
        split: the split's name, empty where there is only one.
        metrics: ``mAP`` (step rule), ``mAP_trapezoid``, ``mINP``, ``rank1``, ``rank5``, ...; for
            single-shot protocols ``rank1`` is the exact expectation, ``rank1_sampled`` and
            ``rank1_sampled_std`` the mean and sample deviation over draws, and ``rank1_all_shots`` that
            of the whole gallery; ``reverse_...`` where the gallery also asks.
        headline: the key of the average precision that the protocol prints as mAP.
        bounds: for each metric that depends on the order of equal distances, its value under the
            worst and under the best order.
        cmc: (max_rank,) the curve behind ``rank1``, ...
        counts: ``queries``, ``gallery``, ``junk``, ``distractors``, ``query_pids``.
        queries: number of queries in the means.
        matchless: number of queries without any true match.
        deviations: habits of other evaluators that were asked for.
        settings: metric, pooling, re-ranking and, where it matters, seed and repeats.
        notes: what is odd about the input, in words.
        query: labels of the queries that were ranked.
        ranks: those of their true matches, in the whole gallery.
        unfiltered: the same with nothing left out, where a deviation needs it.
        reverse: the evaluation with gallery and query in each other's place.
    """

    protocol: str
    title: str
    source: str
    split: str
    metrics: dict[str, float]
    headline: str
    bounds: dict[str, tuple[float, float]]
    cmc: Floats
    counts: dict[str, int]
    queries: int
    matchless: int
    deviations: tuple[str, ...]
    settings: dict[str, str | int | bool]
    notes: tuple[str, ...]
    query: Labels
    ranks: Ranks
    unfiltered: Ranks | None = None
    reverse: "Result | None" = None

    def per_query(self) -> "DataFrame":
        """A row for each query, as ``protocols.per_query`` describes them."""
        full = self.unfiltered or self.ranks
        listed, summed = reach(self.ranks.rank, full.rank, self.deviations)
        return per_query_table(self.query, self.ranks, listed, summed)

    def to_dict(self) -> dict[str, object]:
        """Everything but the ranks, as JSON knows it."""
        return {
            **{name: getattr(self, name) for name in ("protocol", "title", "source", "split", "headline")},
            **{
                name: getattr(self, name)
                for name in ("metrics", "counts", "queries", "matchless", "settings")
            },
            "bounds": {key: list(pair) for key, pair in self.bounds.items()},
            "cmc": self.cmc.tolist(),
            "deviations": list(self.deviations),
            "notes": list(self.notes),
        }

    def table(self, shown: ShownAP = "both") -> str:
        """Metrics with one or both average precisions, and what there is to say about them."""
        rows = [
            (_name(key, self.headline), _with_std(self.metrics, key), *_bounds(self.bounds.get(key)))
            for key in shown_metrics(self.metrics, shown)
        ]
        head = ("metric", "value", "worst ties", "best ties")
        columns = 4 if any(row[2] for row in rows) else 2
        lines = [_title(self), _sizes(self), "", *aligned([head, *rows], columns), "", *_remarks(self, shown)]
        return "\n".join(lines).rstrip()

    def __str__(self) -> str:
        return self.table()


@dataclass(frozen=True, slots=True)
class Summary:
    """Several splits of one protocol.

    Attributes:
        results: one for each split.
        mean: of each metric over the splits.
        std: its sample deviation (divisor n - 1); empty for a single split.
    """

    results: tuple[Result, ...]
    mean: dict[str, float]
    std: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Means, deviations and every split's result, as JSON knows it."""
        splits = [result.to_dict() for result in self.results]
        return {"splits": len(splits), "mean": self.mean, "std": self.std, "results": splits}

    def table(self, shown: ShownAP = "both") -> str:
        """Mean and deviation of each metric, with one or both average precisions."""
        first = self.results[0]
        rows = [
            (_name(key, first.headline), f"{self.mean[key]:.2f}", f"{self.std[key]:.2f}" if self.std else "")
            for key in shown_metrics(self.mean, shown)
        ]
        remarks = dict.fromkeys(line for result in self.results for line in _remarks(result, shown))
        sizes = dict.fromkeys(map(_sizes, self.results))
        lines = [f"{_title(first)}, {len(self.results)} splits", *sizes, ""]
        return "\n".join([*lines, *aligned([("metric", "mean", "std"), *rows], 3), "", *remarks]).rstrip()

    def __str__(self) -> str:
        return self.table()


def summarise(results: Iterable[Result]) -> Summary:
    """Mean and sample deviation of each metric over the splits of one protocol.

    Raises ``InputError`` unless there are results and all are of one protocol and made alike.
    """
    results = tuple(results)
    if not results:
        raise InputError("no results to summarise; give one for each split")
    for result in results[1:]:
        for what in ("protocol", "settings", "deviations"):
            if getattr(result, what) != getattr(results[0], what):
                raise InputError(
                    f"split {result.split!r}: found the {what} {getattr(result, what)}, but split "
                    f"{results[0].split!r} has {getattr(results[0], what)}; evaluate all splits alike"
                )
    scores = {
        key: [result.metrics[key] for result in results] for key in results[0].metrics if not _is_std(key)
    }
    std = {key: stdev(values) for key, values in scores.items()} if len(results) > 1 else {}
    return Summary(results, {key: fmean(values) for key, values in scores.items()}, std)


def shown_metrics(metrics: Iterable[str], shown: ShownAP) -> list[str]:
    """Keys without deviations, and without the average precision that is not asked for."""
    hidden = {"both": (), "step": ("mAP_trapezoid",), "trapezoid": ("mAP",)}[shown]
    return [key for key in metrics if key.removeprefix("reverse_") not in hidden and not _is_std(key)]


def aligned(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Lines of text, the first column to the left and the others to the right."""
    rows = [row[:columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            field.rjust(width) if place else field.ljust(width)
            for place, (field, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _is_std(key: str) -> bool:
    return key.endswith("_std")


def _name(key: str, headline: str) -> str:
    return f"{key} *" if key.removeprefix("reverse_") == headline else key


def _with_std(metrics: Mapping[str, float], key: str) -> str:
    return f"{metrics[key]:.2f}" + (f" ± {metrics[f'{key}_std']:.2f}" if f"{key}_std" in metrics else "")


def _bounds(pair: tuple[float, float] | None) -> tuple[str, str]:
    """Both as text, empty where two digits do not tell them apart."""
    worst, best = (f"{bound:.2f}" for bound in pair) if pair else ("", "")
    return (worst, best) if worst != best else ("", "")


def _title(result: Result) -> str:
    split = f", split {result.split}" if result.split else ""
    return f"{result.protocol}{split}: {result.title}, rules of {result.source}"


def _sizes(result: Result) -> str:
    counts = result.counts
    parts = [f"{counts[name]:,} {name}" for name in ("junk", "distractors") if counts[name]]
    within = f" ({', '.join(parts)} among them)" if parts else ""
    settings = ", ".join(
        key if value is True else f"{key} {value}"
        for key, value in result.settings.items()
        if value is not False
    )
    return (
        f"{counts['queries']:,} queries of {counts['query_pids']:,} identities, "
        f"{counts['gallery']:,} gallery images{within}; {settings}"
    )


def _remarks(result: Result, shown: ShownAP) -> list[str]:
    rule = "step" if result.headline == "mAP" else "trapezoid"
    lines = [f"* the protocol's mAP ({rule} rule)"] if shown in ("both", rule) else []
    if "rank1_all_shots" in result.metrics:
        lines.append(SINGLE_SHOT_NOTE)
    if result.deviations:
        lines.append(f"NOT BY THE PROTOCOL: {', '.join(result.deviations)}")
    return lines + [f"note: {note}" for note in result.notes]
