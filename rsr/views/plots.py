"""Figures: scatter plots with named teachers, and coefficients with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rsr.store.artefacts import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = 66  # characters over a scatter plot

# Okabe and Ito's palette: told apart by colour-blind readers.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Panel:
    """One scatter plot: a point and a name per teacher."""

    title: str
    x_label: str
    y_label: str
    names: Sequence[str]
    x: Sequence[float]
    y: Sequence[float]


def scatter(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels side by side, at most three in a row and four as a square, and save them."""
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(5.6 * columns, 4.6 * rows)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.plot(panel.x, panel.y, "o", color=BLUE, markersize=6)
        axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
        axes.set_title(fill(panel.title, TITLE), fontsize=10)
        axes.margins(x=0.12, y=0.1)
        axes.grid(alpha=0.25)
        _name_points(figure, axes, panel)
    _save(figure, path)


def _name_points(figure: "Figure", axes: "Axes", panel: Panel) -> None:
    """Write each name where it covers no point and no other name, near its point; a thin line where it must move."""
    figure.draw_without_rendering()
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    points = to_pixels(np.column_stack([panel.x, panel.y]))
    frame = axes.get_window_extent()
    scale = figure.dpi / 72
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in points]
    for name, (x, y) in zip(panel.names, points, strict=True):
        text = axes.annotate(name, (0, 0), xycoords="figure pixels", fontsize=7.5, va="center")
        extent = text.get_window_extent()
        text.remove()
        width, height = extent.width, extent.height
        best: tuple[float, tuple[float, float, float, float]] | None = None
        for distance in (9, 15, 23, 33, 45):
            for angle in np.arange(16) * np.pi / 8:
                dx, dy = np.cos(angle), np.sin(angle)
                cx = x + dx * distance * scale + np.sign(round(dx, 6)) * width / 2
                cy = y + dy * distance * scale + np.sign(round(dy, 6)) * height / 2 * (abs(dy) > 0.5)
                box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
                cost = sum(_overlap(box, other) for other in taken) + 4 * (
                    width * height - _overlap(box, (frame.x0, frame.y0, frame.x1, frame.y1))
                )
                if best is None or cost < best[0] - 1e-6:
                    best = (cost, box)
        assert best is not None
        box = best[1]
        taken.append(box)
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        far = max(abs(centre[0] - x) - width / 2, abs(centre[1] - y) - height / 2) > 13 * scale
        axes.annotate(
            name,
            tuple(to_data((x, y))),
            xytext=tuple(to_data(centre)),
            textcoords="data",
            fontsize=7.5,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6} if far else None,
        ).set_in_layout(False)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its interval, in absolute value oriented so that right is as the metric is meant."""

    label: str
    value: float
    low: float
    high: float
    printed: float | None = None


def forest(
    estimates: Sequence[Estimate],
    title: str,
    x_label: str,
    path: Path,
    *,
    labels: tuple[str, str] = ("recomputed", "printed"),
    limits: tuple[float, float] = (-1.02, 1.02),
) -> None:
    """Draw one line per metric: the coefficient, its interval and the printed value, strongest on top.

    Args:
        labels: of the value and of what stands beside it.
    """
    ordered = sorted(estimates, key=lambda e: e.value)
    figure = _figure(7.2, 1.2 + 0.32 * len(ordered))
    axes = figure.add_subplot()
    for i, e in enumerate(ordered):
        axes.plot([e.low, e.high], [i, i], color=BLUE, lw=2, alpha=0.45, solid_capstyle="round")
        axes.plot(e.value, i, "o", color=BLUE, markersize=6, label=labels[0] if i == 0 else None)
    printed = [(e.printed, i) for i, e in enumerate(ordered) if e.printed is not None]
    if printed:
        axes.plot(*zip(*printed, strict=True), "|", color=ORANGE, markersize=13, markeredgewidth=2, label=labels[1])
        axes.legend(loc="lower right", fontsize=8)
    axes.axvline(0, color=GREY, lw=0.8)
    axes.set_yticks(range(len(ordered)), [e.label for e in ordered], fontsize=9)
    axes.set(xlabel=x_label, xlim=limits, ylim=(-0.7, len(ordered) - 0.3))
    figure.suptitle(title, fontsize=10)  # over the labels, too: it is wider than the axes
    axes.grid(axis="x", alpha=0.25)
    _save(figure, path)


@dataclass(frozen=True)
class Curve:
    """Values over x with their intervals, and what is expected of them where there is a closed form."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    expected: Sequence[float] | None = None


def curves(
    panels: Sequence[tuple[str, Sequence[Curve]]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    path: Path,
    log: bool = False,
) -> None:
    """Draw titled panels of curves side by side, intervals as bands and expectations dashed."""
    from matplotlib import colormaps
    from matplotlib.ticker import ScalarFormatter

    figure = _figure(5.2 * len(panels) + 1.8, 4.2)
    figure.suptitle(title, fontsize=11)
    for i, (name, drawn) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        for curve, colour in zip(drawn, colormaps["turbo"](np.linspace(0.05, 0.95, len(drawn))), strict=True):
            axes.plot(curve.x, curve.y, "o-", color=colour, markersize=4, label=curve.label)
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, lw=0)
            if curve.expected is not None:
                axes.plot(curve.x, curve.expected, "--", color=colour, lw=1.2)
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set(xlabel=x_label, ylabel=y_label if i == 0 else "")
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def ranges(
    groups: Mapping[str, Sequence[Estimate]],
    title: str,
    x_label: str,
    path: Path,
    *,
    marks: Mapping[str, float] = {},
) -> None:
    """Draw values with their intervals, one line each and largest on top, a panel a group.

    Args:
        marks: named values to compare with, drawn as vertical lines.
    """
    most = max(map(len, groups.values()))
    figure = _figure(1.6 + 5.2 * len(groups), 1.5 + 0.32 * most)
    first: Axes | None = None
    for i, (group, estimates) in enumerate(groups.items()):
        axes = figure.add_subplot(1, len(groups), i + 1, sharex=first)
        first = first or axes
        ordered = sorted(estimates, key=lambda e: e.value)
        for y, e in enumerate(ordered):
            axes.plot([e.low, e.high], [y, y], color=BLUE, lw=2, alpha=0.45, solid_capstyle="round")
            axes.plot(e.value, y, "o", color=BLUE, markersize=6)
        for (name, at), style in zip(marks.items(), ("--", ":", "-."), strict=False):
            axes.axvline(at, color=ORANGE, lw=1.2, ls=style, label=name)
        if any(e.low < 0 for e in ordered):
            axes.axvline(0, color=GREY, lw=0.8)
        axes.set_yticks(range(len(ordered)), [e.label for e in ordered], fontsize=9)
        axes.set(xlabel=x_label, ylim=(-0.7, len(ordered) - 0.3))
        axes.set_title(group, fontsize=10)
        axes.grid(axis="x", alpha=0.25)
    if marks:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def stacked_bars(
    parts: Mapping[str, NDArray[np.float64]], *, x_label: str, y_label: str, title: str, path: Path
) -> None:
    """Draw bars made of named parts, one on the other, over 1, 2, 3, ..."""
    figure = _figure(7.2, 3.6)
    axes = figure.add_subplot()
    base: NDArray[np.float64] | float = 0.0
    for (name, heights), colour in zip(parts.items(), (BLUE, ORANGE, GREY), strict=False):
        axes.bar(np.arange(1, len(heights) + 1), heights, bottom=base, color=colour, label=name)
        base = base + heights
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=9)
    _save(figure, path)


def heatmap(
    panels: Sequence[tuple[str, NDArray[np.float64]]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_label: str,
    column_label: str,
    title: str,
    path: Path,
    limits: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Draw titled grids of values within limits side by side, each value written in its cell."""
    figure = _figure(4.2 * len(panels), 3.9)
    figure.suptitle(title, fontsize=11)
    for i, (name, values) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        axes.imshow(values, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value < sum(limits) / 2 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel=column_label, ylabel=row_label if i == 0 else "")
        axes.set_title(name, fontsize=9)
    _save(figure, path)


@dataclass(frozen=True)
class Growth:
    """What something costs at several sizes."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def growth(panels: Sequence[tuple[str, Sequence[Growth]]], *, x_label: str, path: Path) -> None:
    """Draw titled panels of costs against size side by side, both axes logarithmic."""
    figure = _figure(4.6 * len(panels), 5.2)
    for i, (title, of_panel) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        for curve, colour, marker in zip(of_panel, PALETTE, "osD^vX", strict=False):
            axes.plot(curve.x, curve.y, f"-{marker}", color=colour, label=curve.label, markersize=5, lw=1.4)
        axes.set(xlabel=x_label, xscale="log", yscale="log")
        places = sorted({x for curve in of_panel for x in curve.x})
        axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.set_xticks([], minor=True)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; matplotlib is imported when something is drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # No date and no version in the file, so that drawing the same numbers again changes nothing.
        figure.savefig(path, dpi=130, metadata={"Software": None})
