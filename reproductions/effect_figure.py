"""A mechanism as a curve: the gain of one row over another against the dial."""

from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reproductions.claims import Difference, shown
from reproductions.effects import Effect, Trial

PANEL_INCHES = (4.2, 3.8)
DPI = 150
OFFSET = 0.03  # of the range of levels
COLOUR, FAINT = "#1f5fa8", "#9aa5b1"
METRICS = {"mAP": "mAP", "rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10"}


def gain_figure(trial: Trial) -> Figure:
    """A panel for each metric: gains with 95 % intervals, the fitted line and each seed's own difference.

    Seeds are not paired, so none has a gain of its own: a faint point is a seed of one row held against
    the mean of the other.
    """
    effects, one = trial.verdict.effects, trial.mechanism
    figure = Figure(
        figsize=(PANEL_INCHES[0] * len(effects), PANEL_INCHES[1] + 1), dpi=DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    for place, effect in enumerate(effects, start=1):
        _panel(figure.add_subplot(1, len(effects), place), effect, one.dial)
    first, second = one.rows
    figure.suptitle(
        f"{trial.paper.key.upper()}, {one.id}: {trial.verdict.word}\n"
        f"gain of {first} over {second}, scale proxy (embedded street), {_seeds(effects)}",
        fontsize="medium",
    )
    return figure


def _panel(axes: Axes, effect: Effect, dial: str) -> None:
    name = METRICS.get(effect.metric, effect.metric)
    axes.axhline(0, color="black", linewidth=0.8)
    _points(axes, effect)
    known = [(one.level, one.gain) for one in effect.levels if one.gain]
    axes.errorbar(
        [level for level, _ in known],
        [gain.gap for _, gain in known],
        [(gain.high - gain.low) / 2 for _, gain in known],
        fmt="o",
        color=COLOUR,
        capsize=4,
        label="mean and 95 % interval",
    )
    if effect.rise:
        _line(axes, effect, effect.rise)
    axes.set(xlabel=dial, ylabel=f"gain in {name} (points)", xticks=[one.level for one in effect.levels])
    rise = f": rise {shown(effect.rise)}" if effect.rise else ""
    axes.set_title(f"{name}, {effect.word}{rise}", fontsize="small")
    axes.legend(fontsize="x-small", frameon=False)


def _points(axes: Axes, effect: Effect) -> None:
    """Seeds of the first row against the second's mean, to the left; the other way round to the right."""
    places = [one.level for one in effect.levels]
    aside = OFFSET * (max(places) - min(places))
    both = [one for one in effect.levels if one.first and one.second]
    first = [(one.level, score - fmean(one.second.values())) for one in both for score in one.first.values()]
    second = [(one.level, fmean(one.first.values()) - score) for one in both for score in one.second.values()]
    for name, points, shift, marker in (("first", first, -aside, ">"), ("second", second, aside, "<")):
        x, y = [level + shift for level, _ in points], [gain for _, gain in points]
        axes.scatter(x, y, s=14, marker=marker, color=FAINT, linewidths=0, label=f"seeds of the {name} row")


def _line(axes: Axes, effect: Effect, rise: Difference) -> None:
    """The least-squares line runs through the mean gain at the mean level."""
    places = [one.level for one in effect.levels]
    low, high = min(places), max(places)
    middle = fmean(one.gain.gap for one in effect.levels if one.gain)
    ends = [middle + rise.gap * (x - fmean(places)) / (high - low) for x in (low, high)]
    axes.plot([low, high], ends, "--", color=COLOUR, linewidth=1, label="straight line")


def _seeds(effects: Sequence[Effect]) -> str:
    counts = sorted({len(side) for one in effects for at in one.levels for side in (at.first, at.second)})
    return f"{'-'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds a row and level"
