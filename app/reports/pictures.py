"""What a page draws: distributions, the ladder's trade-off, training curves, strata of memorisation."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from app.reports.drawing import INK, LOOKS, QUIET, Cell, Look, Picture, Table, canvas, inline
from app.reports.schemas import Gauge, Tried
from app.reports.words import number, plain
from unlearning.audits.report import Audit, Curve, Histogram, Outcome, Stratum

RECORDS = {
    "forgotten": "Forgotten records",
    "retained": "Retained records",
    "never seen": "Never-seen records",
}
MOST_ROWS = 100
"""Of a curve that a table shows; a longer one is thinned evenly, its ends kept."""
MARKED_STEPS = 30
MOST_CURVES = 12
FAR = 20.0
"""Widths of the accepted region beyond which an axis is compressed, lest the region become a line."""


SCORES = {
    "margin": (
        "margin, the logit-scaled confidence in the right class",
        "right: confident in the right class",
    ),
    "log-odds": ("log-odds of an edge's being there", "right: sure of the edge"),
    "pair score": ("score of a user with an item", "right: recommended"),
}
"""What is counted, in full, and which way it points, by the name that a family's audit gives its scores."""


def _score(name: str) -> tuple[str, str]:
    """Return a score's name in full, and as an axis bears it; a name that nobody explained stands as it is."""
    full, direction = SCORES.get(name, (name, "right: as if learned"))
    return full, f"{name} ({direction})"


def distributions(audit: Audit) -> Iterator[Picture]:
    """Yield one picture for each set of records: how their scores lie, as each model sees them."""
    for records, title in RECORDS.items():
        found = {
            histogram.model: histogram for histogram in audit.distributions if histogram.records == records
        }
        if found:
            yield _distribution(records, title, found)


def _distribution(records: str, title: str, found: dict[str, Histogram]) -> Picture:
    shown = {model: found[model] for model in LOOKS if model in found}
    first = next(iter(found.values()))
    edges, (score, axis) = first.edges, _score(first.score)
    key = f"margins-{records.replace(' ', '-')}"
    parts = [f"{LOOKS[model].name} {number(_median(shown[model]))}" for model in shown]
    description = (
        f"Histogram of the {score}, over {records} records. Median (middle of its bin): {', '.join(parts)}."
    )
    with canvas() as (figure, axes):
        for model, histogram in shown.items():
            _draw_histogram(axes, LOOKS[model], histogram)
        axes.set_xlabel(axis)
        axes.set_ylabel("share of records")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper center", ncols=3, handlelength=2.5)
        svg = inline(figure, key, title, description)
    models = [*shown, *(model for model in found if model not in shown)]
    rows: list[list[Cell]] = [
        [f"{number(low)} to {number(high)}", *(found[model].counts[place] for model in models)]
        for place, (low, high) in enumerate(pairwise(edges))
    ]
    headers = [first.score, *(f"{_named(model)} (n = {found[model].n})" for model in models)]
    note = "Records in each bin; what lies beyond the outer ends is counted in the outer bins."
    return Picture(key, title, description, svg, Table(headers, rows, note))


def _draw_histogram(axes: Axes, look: Look, histogram: Histogram) -> None:
    shares = [count / max(1, histogram.n) for count in histogram.counts]
    style: dict[str, Any] = {
        "edgecolor": look.colour,
        "linestyle": look.dashes,
        "linewidth": 1.8,
        "label": look.name,
    }
    axes.stairs(shares, histogram.edges, fill=False, **style)
    if look.hatch:
        axes.stairs(
            shares,
            histogram.edges,
            fill=True,
            facecolor="none",
            edgecolor=look.colour,
            hatch=look.hatch,
            linewidth=0,
            alpha=0.6,
        )


def _named(model: str) -> str:
    return LOOKS[model].name if model in LOOKS else plain(model)


def _median(histogram: Histogram) -> float | None:
    """Return the middle of the bin that holds the median."""
    if not histogram.n:
        return None
    below = accumulate(histogram.counts)
    place = next(place for place, count in enumerate(below) if 2 * count >= histogram.n)
    return (histogram.edges[place] + histogram.edges[place + 1]) / 2


def ladder(tried: Sequence[Tried]) -> Picture | None:
    """Draw every rung by its utility and its forget quality, with the region that is accepted."""
    placed = [
        (place, rung, rung.utility.value)
        for place, rung in enumerate(tried, start=1)
        if rung.utility is not None and rung.utility.value is not None
    ]
    measured = [
        (place, rung.forget_quality.value, utility, rung)
        for place, rung, utility in placed
        if rung.forget_quality is not None and rung.forget_quality.value is not None
    ]
    if not measured:
        return None
    exact = [(place, utility, rung) for place, rung, utility in placed if rung.forget_quality is None]
    forgetting = next(rung.forget_quality for *_, rung in measured if rung.forget_quality is not None)
    usefulness = next(rung.utility for *_, rung in measured if rung.utility is not None)
    title = "Utility against forget quality, for every method tried"
    inside = [
        str(place) for place, *_, rung in measured if _within(rung.forget_quality) and _within(rung.utility)
    ]
    description = (
        f"Scatter plot of {len(measured)} measured methods. Upright: {usefulness.name}; across: {forgetting.name}, "
        f"near {number(forgetting.reference)} where nothing tells the result from retraining. "
        + (
            f"Within the accepted region: {', '.join(inside)}."
            if inside
            else "None lies within the accepted region."
        )
        + (f" Exact methods, of which no forget quality is measured: {len(exact)}." if exact else "")
    )
    with canvas(5.0, 3.8) as (figure, axes):
        _frame(
            axes, forgetting, usefulness, [across for _, across, *_ in measured], [one[2] for one in placed]
        )
        for place, across, upright, rung in measured:
            _draw_rung(axes, place, across, upright, rung)
        for place, upright, rung in exact:
            # No forget quality is measured of an exact method: it stands on the axis, away from the figures.
            _draw_rung(axes, place, 0.0, upright, rung, on_axis=True)
        axes.set_xlabel(f"{plain(forgetting.name)}{' (on the axis: exact methods)' if exact else ''}")
        axes.set_ylabel(plain(usefulness.name))
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        figure.legend(once.values(), once.keys(), loc="outside upper center", ncols=3, handlelength=1.8)
        svg = inline(figure, "ladder", title, description)
    headers = ["", "method", "utility", "accepted", "forget quality", "accepted", "outcome", "published"]
    note = "Utility is the check " + " or ".join(
        dict.fromkeys(rung.utility.name for _, rung, _ in placed if rung.utility is not None)
    )
    return Picture(
        "ladder",
        title,
        description,
        svg,
        Table(headers, [*_ladder_rows(tried)], f"{note}; forget quality is {forgetting.name}."),
    )


def _ladder_rows(tried: Sequence[Tried]) -> Iterator[list[Cell]]:
    for place, rung in enumerate(tried, start=1):
        utility, quality = rung.utility, rung.forget_quality
        yield [
            place,
            rung.method,
            utility.value if utility is not None else None,
            _limits(utility),
            quality.value if quality is not None else None,
            _limits(quality),
            rung.verdict.value if rung.verdict is not None else "left nothing to judge",
            "yes" if rung.chosen else "no",
        ]


def _limits(gauge: Gauge | None) -> str | None:
    if gauge is None or gauge.limits is None:
        return None
    low, high = gauge.limits
    if low is None:
        return f"≤ {number(high)}"
    return f"≥ {number(low)}" if high is None else f"{number(low)} to {number(high)}"


def _within(gauge: Gauge | None) -> bool:
    return gauge is not None and gauge.outcome is Outcome.PASS


def _frame(
    axes: Axes, forgetting: Gauge, usefulness: Gauge, across: Sequence[float], upright: Sequence[float]
) -> None:
    """Choose the ends of both axes and shade the accepted region; a side without a limit reaches to the edge."""
    low, high = forgetting.limits or (None, None)
    marks = [forgetting.reference, forgetting.original, low, high]
    xs = [*across, *(mark for mark in marks if mark is not None)]
    left, right = _ends(xs)
    if low is not None and high is not None and right - left > FAR * (high - low) > 0:
        axes.set_xscale("symlog", linthresh=2 * max(abs(low), abs(high)))
        left, right = 1.5 * left if left < 0 else left, 1.5 * right if right > 0 else right
    lowest, highest = usefulness.limits or (None, None)
    bottom, top = _ends(
        [*upright, *(mark for mark in (usefulness.reference, lowest, highest) if mark is not None)]
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.fill_between(
        [low if low is not None else left, high if high is not None else right],
        lowest if lowest is not None else bottom,
        highest if highest is not None else top,
        facecolor="#dcefe6",
        edgecolor="#007a5a",
        hatch="//",
        linewidth=1.0,
        label="accepted region",
        zorder=1,
    )
    if forgetting.original is not None:
        look = LOOKS["original"]
        axes.axvline(
            forgetting.original,
            color=look.colour,
            linestyle=look.dashes,
            linewidth=1.6,
            label="nothing forgotten",
        )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    room = 0.12 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 0.1
    return min(values) - room, max(values) + room


def _draw_rung(
    axes: Axes, place: int, across: float, upright: float, rung: Tried, *, on_axis: bool = False
) -> None:
    marker, colour, label = {
        Outcome.PASS: ("o", "#0060a8", "passed"),
        Outcome.FAIL: ("X", "#c44e00", "failed"),
        Outcome.INCONCLUSIVE: ("s", QUIET, "could not decide"),
    }[rung.verdict or Outcome.INCONCLUSIVE]
    transform = axes.get_yaxis_transform() if on_axis else axes.transData
    axes.plot(
        [across],
        [upright],
        marker=marker,
        markersize=11 if rung.chosen else 8,
        markeredgecolor=INK if rung.chosen else "white",
        markeredgewidth=1.6 if rung.chosen else 0.8,
        color=colour,
        linestyle="none",
        label=label,
        transform=transform,
        clip_on=False,
        zorder=3,
    )
    axes.annotate(
        str(place),
        (across, upright),
        xycoords=transform,
        xytext=(11, -4) if on_axis else (0, 9 if place % 2 else -17),
        textcoords="offset points",
        ha="center",
        zorder=4,
    )


def curves(audit: Audit) -> Iterator[Picture]:
    """Yield one picture for each figure that the method reported while it worked."""
    for place, curve in enumerate(audit.curves[:MOST_CURVES], start=1):
        if curve.steps:
            yield _curve(f"curve-{place}", curve)


def _curve(key: str, curve: Curve) -> Picture:
    title = plain(curve.name)
    description = (
        f"Line of {title} over {len(curve.steps)} steps: from {number(curve.values[0])} at step {curve.steps[0]} "
        f"to {number(curve.values[-1])} at step {curve.steps[-1]}; "
        f"least {number(min(curve.values))}, greatest {number(max(curve.values))}."
    )
    look = LOOKS["candidate"]
    with canvas() as (figure, axes):
        marker = look.marker if len(curve.steps) <= MARKED_STEPS else ""
        axes.plot(curve.steps, curve.values, color=look.colour, linewidth=1.8, marker=marker, markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step")
        axes.set_ylabel(title if len(title) < 40 else "value")  # noqa: PLR2004 - as much as fits beside the axis
        svg = inline(figure, key, title, description)
    kept = _thinned(len(curve.steps))
    note = f"{len(kept)} of {len(curve.steps)} steps." if len(kept) < len(curve.steps) else ""
    rows = [[curve.steps[place], curve.values[place]] for place in kept]
    return Picture(key, title, description, svg, Table(["step", title], rows, note))


def _thinned(count: int) -> list[int]:
    if count <= MOST_ROWS:
        return list(range(count))
    return [round(place * (count - 1) / (MOST_ROWS - 1)) for place in range(MOST_ROWS)]


def strata(audit: Audit) -> Picture | None:
    """Draw the records that were memorised most and least: mean scores, and where retrained models lie."""
    found = audit.strata
    if not found:
        return None
    title = "Forgotten records by how well they were memorised"
    # Strata are of the same scores as the distributions.
    name = next((histogram.score for histogram in audit.distributions), "margin")
    said = [
        f"{plain(one.name)} (n = {one.n}): original {number(one.original)}, new version {number(one.candidate)}, "
        f"retrained {number(one.retrained)}"
        for one in found
    ]
    description = (
        f"Mean {name} of two groups of forgotten records, as each model sees them. {'. '.join(said)}."
    )
    with canvas(5.0, 1.6 + 0.7 * len(found)) as (figure, axes):
        for height, one in enumerate(reversed(found)):
            _draw_stratum(axes, height, one, first=height == 0)
        axes.set_yticks(range(len(found)), [_short(one.name) for one in reversed(found)])
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.set_xlabel(f"mean {_score(name)[1]}")
        figure.legend(loc="outside upper center", ncols=2, handlelength=1.8)
        svg = inline(figure, "strata", title, description)
    headers = [
        "records",
        "n",
        "memorisation, least",
        "greatest",
        "original",
        "new version",
        "retrained",
        "from",
        "to",
    ]
    rows = [
        [
            one.name,
            one.n,
            *one.memorisation,
            one.original,
            one.candidate,
            one.retrained,
            *(one.limits or (None, None)),
        ]
        for one in found
    ]
    note = f"The last two columns: where a retrained model's mean {name} lies, by the references' spread."
    return Picture("strata", title, description, svg, Table(headers, rows, note))


def _draw_stratum(axes: Axes, height: int, one: Stratum, *, first: bool) -> None:
    if one.limits is not None:
        axes.fill_betweenx(
            [height - 0.3, height + 0.3],
            *one.limits,
            facecolor="#dcefe6",
            edgecolor="#007a5a",
            hatch="//",
            label="where retrained models lie" if first else None,
        )
    for model, value in (
        ("original", one.original),
        ("retrained", one.retrained),
        ("candidate", one.candidate),
    ):
        look = LOOKS[model]
        axes.plot(
            [value],
            [height],
            marker=look.marker,
            markersize=9,
            color=look.colour,
            markeredgecolor="white",
            linestyle="none",
            label=look.name if first else None,
            zorder=3,
        )


def _short(name: str) -> str:
    """Return a name that fits beside an axis."""
    name = plain(name).removeprefix("the quarter that was ")
    return name if len(name) <= 24 else f"{name[:23]}…"  # noqa: PLR2004 - as much as fits
