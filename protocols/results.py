"""What an evaluation says: numbers, how they came about, and what is odd about the input."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Literal

from protocols.arrays import InputError
from protocols.base import Protocol
from protocols.deviations import acts_on, reach, why_idle
from protocols.metrics import Floats
from protocols.naming import Naming
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
        rules_of: the protocol that judged.
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
        naming: what queries and gallery images are called in tables.
        unfiltered: the same with nothing left out, where a deviation needs it.
        rank1: (Q,) for single-shot protocols, each query's expected rank-1.
        reverse: the evaluation with gallery and query in each other's place.
    """

    rules_of: Protocol
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
    naming: tuple[Naming, Naming]
    unfiltered: Ranks | None = None
    rank1: Floats | None = None
    reverse: "Result | None" = None

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return self.rules_of.name

    def per_query(self) -> "DataFrame":
        """A row for each query, as ``protocols.per_query`` describes them.

        Where the gallery also asks, ``direction`` tells ``forward`` from ``reverse``.
        """
        full = self.unfiltered or self.ranks
        listed, summed = reach(self.ranks.rank, full.rank, self.deviations)
        table = per_query_table(self.query, self.ranks, listed, summed, self.naming, self.rank1)
        if self.reverse is None:
            return table
        from pandas import concat

        back = self.reverse.per_query()
        both = [table.assign(direction="forward"), back.assign(direction="reverse")]
        return concat(both, ignore_index=True)

    def to_dict(self) -> dict[str, object]:
        """Everything but the ranks, as JSON knows it."""
        rules_of = self.rules_of
        return {
            **{name: getattr(rules_of, name) for name in ("title", "source")},
            **{name: getattr(self, name) for name in ("protocol", "split", "headline")},
            "fingerprint": rules_of.fingerprint(),
            "rules": asdict(rules_of.rules),
            "retable": _version(),
            **{
                name: getattr(self, name)
                for name in ("metrics", "counts", "queries", "matchless", "settings")
            },
            "bounds": {key: list(pair) for key, pair in self.bounds.items()},
            "cmc": self.cmc.tolist(),
            **({"reverse_cmc": self.reverse.cmc.tolist()} if self.reverse else {}),
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
        lines = [
            _heading(self),
            _sizes(self),
            "",
            *aligned([head, *rows], columns),
            "",
            *_remarks(self, shown),
        ]
        return "\n".join(lines).rstrip()

    def __str__(self) -> str:
        return self.table()


@dataclass(frozen=True, slots=True)
class Summary:
    """Several splits of one protocol, or several runs on one split.

    Attributes:
        results: one for each split or run.
        mean: of each metric over the results.
        std: its sample deviation (divisor n - 1); empty for a single result.
    """

    results: tuple[Result, ...]
    mean: dict[str, float]
    std: dict[str, float]

    @property
    def splits(self) -> int:
        """How many splits there are: one, where the same queries were asked every time."""
        return len({(r.query.pids.tobytes(), r.query.camids.tobytes()) for r in self.results})

    def to_dict(self) -> dict[str, object]:
        """Means, deviations and every result, as JSON knows it."""
        results = [result.to_dict() for result in self.results]
        return {"splits": self.splits, "mean": self.mean, "std": self.std, "results": results}

    def table(self, shown: ShownAP = "both") -> str:
        """Mean and deviation of each metric, with one or both average precisions."""
        first = self.results[0]
        rows = [
            (_name(key, first.headline), f"{self.mean[key]:.2f}", f"{self.std[key]:.2f}" if self.std else "")
            for key in shown_metrics(self.mean, shown)
        ]
        remarks = dict.fromkeys(line for result in self.results for line in _remarks(result, shown))
        sizes = dict.fromkeys(map(_sizes, self.results))
        lines = [f"{_heading(first)}, {self._number()}", *sizes, ""]
        return "\n".join([*lines, *aligned([("metric", "mean", "std"), *rows], 3), "", *remarks]).rstrip()

    def _number(self) -> str:
        if self.splits == len(self.results):
            return f"{self.splits} splits"
        where = "one split" if self.splits == 1 else f"{self.splits} splits"
        return f"{len(self.results)} runs on {where} (some asked the same queries)"

    def __str__(self) -> str:
        return self.table()


def summarise(results: Iterable[Result]) -> Summary:
    """Mean and sample deviation of each metric over the splits of one protocol.

    Raises ``InputError`` unless there are results and all are of one protocol and made alike.
    """
    if isinstance(results, Result):
        raise InputError("found one result, expected several; give a list, with one for each split")
    results = tuple(results)
    for result in results:
        if not isinstance(result, Result):
            raise InputError(f"found {result!r} among the results, expected what evaluate returned")
    if not results:
        raise InputError("no results to summarise; give one for each split")
    for number, result in enumerate(results[1:], 1):
        for what in ("protocol", "settings", "deviations"):
            if getattr(result, what) != getattr(results[0], what):
                raise InputError(
                    f"result {number} (split {result.split!r}): found the {what} {getattr(result, what)}, "
                    f"but result 0 (split {results[0].split!r}) has {getattr(results[0], what)}; evaluate "
                    "all splits alike"
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


def _heading(result: Result) -> str:
    split = f", split {result.split}" if result.split else ""
    return f"{result.protocol}{split}: {result.rules_of.title}, rules of {result.rules_of.source}"


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
    lines = [_headline(result)] if shown in ("both", result.rules_of.rules.headline_ap) else []
    if "rank1_all_shots" in result.metrics:
        lines.append(SINGLE_SHOT_NOTE)
    return [*lines, *_deviations(result), *(f"note: {note}" for note in result.notes)]


def _headline(result: Result) -> str:
    """Whose choice the star is: that of this project, which need not be that of the data set's authors."""
    protocol = result.rules_of
    rule, authors = protocol.rules.headline_ap, protocol.authors_ap
    usual = ", as most code since 2018" if rule == "step" else ""
    if authors in (None, rule):
        return f"* headline: {rule} rule{usual}"
    key = "mAP" if authors == "step" else "mAP_trapezoid"
    return f"* headline: {rule} rule{usual}; the code of {protocol.title}'s authors prints {key}"


def _deviations(result: Result) -> list[str]:
    """Those that can change a number, with what they act on; those that cannot, with the reason."""
    rules, images = result.rules_of.rules, result.counts["gallery"]
    single_shot = result.rules_of.single_shot is not None
    reasons = {name: why_idle(name, rules, images, result.matchless) for name in result.deviations}
    active = [
        f"{name} (acts on {acts_on(name, single_shot=single_shot)})"
        for name, reason in reasons.items()
        if not reason
    ]
    lines = [f"NOT BY THE PROTOCOL: {', '.join(active)}"] if active else []
    return lines + [f"{name} changes nothing: {reason}" for name, reason in reasons.items() if reason]


def _version() -> str:
    try:
        return version("retable")
    except PackageNotFoundError:  # the source tree alone
        return "unknown"
