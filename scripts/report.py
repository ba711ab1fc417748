"""Draws what target-jsonl wrote as charts, in one file that loads nothing from elsewhere.

`python -m scripts.report output [output/report.html]`
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from scripts import recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    Row = dict[str, Any]

BLUE, PALE, GREEN, ORANGE = "#2a5bd7", "#c3d0f5", "#0a7c42", "#f28809"
COLOURS = (BLUE, ORANGE, GREEN, "#c8102e", "#7b3fa0", "#1192a8", "#8a6d3b", "#808080")
GRID, TEXT = "#e3e6ea", "#333"
MOST_BARS = 15
"""So many members of the staff, tags or ads can be read on a phone."""
LONGEST_LABEL = 24
FEW = 10
"""Below this, an axis has a line for each."""
HOURS_FROM = 180
"""Minutes above which hours are easier to read."""
AGES = (
    (1, "under 1 h"),
    (4, "1 to 4 h"),
    (24, "4 to 24 h"),
    (72, "1 to 3 days"),
    (168, "3 to 7 days"),
    (float("inf"), "over 7 days"),
)
RESPONSES = """
SELECT CAST(extract(hour FROM w.asked_local) AS INTEGER) AS hour, p.id AS page_id, p.name AS page,
    w.staff_id, w.staff, extract(epoch FROM w.answered_at - w.asked_at) / 60 AS minutes
FROM shop.waits w JOIN shop.pages p ON p.id = w.page_id
WHERE w.answered_at IS NOT NULL
"""
SUMMARY = """
SELECT (SELECT count(*) FROM shop.pages) AS pages, count(*) AS messages,
    count(DISTINCT page_id || ' ' || conversation_id) AS conversations,
    min(CAST(local_at AS DATE)) AS first, max(CAST(local_at AS DATE)) AS last,
    (SELECT strftime(as_of AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M') FROM shop.clock) AS as_of
FROM shop.said
"""
# The policy keeps the browser from loading anything, whatever is in the file.
DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>Pancake: how the shop answers</title>
<style>
body {{ font: 1rem/1.4 system-ui, sans-serif; color: {text}; background: #f4f5f7;
    max-width: 60rem; margin: 0 auto; padding: .75rem; }}
h1 {{ font-size: 1.4rem; margin: .25rem 0; }}
h2 {{ font-size: 1.1rem; margin: 0; }}
p {{ color: #666; font-size: .9rem; margin: .25rem 0; }}
section {{ background: #fff; border-radius: .5rem; margin: .75rem 0; padding: .75rem; }}
</style>
<script>{script}</script>
</head>
<body>
<h1>How the shop answers</h1>
<p>{summary}</p>
{sections}
</body>
</html>
"""


@dataclass
class Chart:
    """A chart with its words; without a figure there is nothing to show."""

    title: str
    note: str
    figure: go.Figure | None

    def html(self, number: int) -> str:
        """Give the part of the page."""
        drawn = "<p>Nothing to show.</p>"
        if self.figure:
            drawn = self.figure.to_html(
                full_html=False,
                include_plotlyjs=False,
                div_id=f"chart-{number}",
                default_height=f"{self.figure.layout.height}px",
                config={"displayModeBar": False, "responsive": True},
            )
        return f"<section>\n<h2>{self.title}</h2>\n<p>{self.note}</p>\n{drawn}\n</section>"


# The charts


def messages_per_day(rows: list[Row]) -> Chart:
    """Draw all messages of each channel."""
    title, note = "Messages per day and channel", "Everything that was said, by the page's clock."
    channels = sorted({row["platform"] for row in rows})
    bars = [
        go.Bar(
            name=channel_name(channel),
            marker_color=COLOURS[number % len(COLOURS)],
            x=[row["day"].isoformat() for row in rows if row["platform"] == channel],
            y=[row["messages"] for row in rows if row["platform"] == channel],
        )
        for number, channel in enumerate(channels)
    ]
    return Chart(title, note, columns(bars, "day", "messages", type="date", tickformat="%d %b"))


def response_by_hour(rows: list[Row]) -> Chart:
    """Draw the median of the waits that began in each hour."""
    title = "First response time by hour"
    note = (
        "By the hour in which the customer began to wait. Half of the customers waited no longer."
    )
    waits = defaultdict(list)
    for row in rows:
        waits[row["hour"]].append(row["minutes"])
    medians = [median(waits[hour]) if waits[hour] else None for hour in range(24)]
    unit, times = in_unit(medians)
    bars = [
        go.Bar(
            name="",
            marker_color=BLUE,
            x=list(range(24)),
            y=times,
            customdata=[len(waits[hour]) for hour in range(24)],
            hovertemplate=f"%{{x}}:00<br>%{{y:.1f}} {unit}<br>%{{customdata}} answers",
        )
    ]
    return Chart(
        title,
        note,
        columns(bars if rows else [], "hour of the day", f"median wait ({unit})", dtick=3, tick0=0),
    )


def response_by_staff(rows: list[Row]) -> Chart:
    """Draw the median of the waits that each member of the staff ended."""
    title = "First response time by staff"
    note = "Who ended how many waits; the busiest first. “Outside”: typed outside Pancake."
    waits = defaultdict(list)
    names = {}
    for row in rows:
        key = row["page_id"], row["staff_id"]
        waits[key].append(row["minutes"])
        names[key] = row["staff"] or row["staff_id"] or f"Outside, {row['page']}"
    busiest = sorted(waits, key=lambda key: -len(waits[key]))[:MOST_BARS]
    unit, times = in_unit([median(waits[key]) for key in busiest])
    counts = [f" ({len(waits[key])})" for key in busiest]
    labels = [names[key] + count for key, count in zip(busiest, counts, strict=True)]
    bars = [bar("", BLUE, labels, times, f"%{{x:.1f}} {unit}")]
    # Beside the bars a long name is cut, and not its count.
    labels = [
        shortened(names[key], LONGEST_LABEL - len(count)) + count
        for key, count in zip(busiest, counts, strict=True)
    ]
    return Chart(title, note, rows_of(bars, labels, f"median wait ({unit})"))


def open_by_age(rows: list[Row]) -> Chart:
    """Draw how long the open conversations have waited."""
    title, note = "Open conversations by age", "The customer spoke last, and nobody has answered."
    counts = Counter((row["platform"], age(float(row["hours"]))) for row in rows)
    names = [name for _, name in AGES]
    bars = [
        go.Bar(
            name=channel_name(channel),
            marker_color=COLOURS[number % len(COLOURS)],
            x=names,
            y=[counts[channel, name] for name in names],
        )
        for number, channel in enumerate(sorted({row["platform"] for row in rows}))
    ]
    return Chart(title, note, columns(bars, "waiting for", "conversations", type="category"))


def tag_funnel(rows: list[Row]) -> Chart:
    """Draw how many conversations have and had each tag, pages with the same tag together."""
    title, note = "Tag funnel", "Conversations that ever had the tag, and that have it now."
    ever, now = Counter[str](), Counter[str]()
    for row in rows:
        ever[row["tag"]] += row["ever_tagged"]
        now[row["tag"]] += int(row["tagged_now"])
    tags = [tag for tag, _ in ever.most_common(MOST_BARS)]
    bars = [
        bar("ever tagged", PALE, tags, [ever[tag] for tag in tags], "%{x} conversations"),
        bar("tagged now", BLUE, tags, [now[tag] for tag in tags], "%{x} conversations"),
    ]
    bars[1].width = 0.45
    return Chart(title, note, rows_of(bars, tags, "conversations", barmode="overlay"))


def customers_by_ad(rows: list[Row]) -> Chart:
    """Draw the new customers of each ad."""
    title = "New customers by ad"
    note = "Customers whose first ad it was, and who were not known to the page before."
    best = rows[:MOST_BARS]
    labels = [row["ad"] or f"ad {row['ad_id']}" for row in best]
    with_phone = [int(row["with_phone"]) for row in best]
    others = [
        int(row["new_customers"]) - phone for row, phone in zip(best, with_phone, strict=True)
    ]
    bars = [
        bar("left a phone number", GREEN, labels, with_phone, "%{x} customers"),
        bar("did not", PALE, labels, others, "%{x} customers"),
    ]
    return Chart(title, note, rows_of(bars, labels, "new customers"))


# How they look


def bar(name: str, colour: str, labels: list[str], values: Sequence[Any], hover: str) -> go.Bar:
    """Give horizontal bars, by their places: labels may be the same once they are cut."""
    return go.Bar(
        name=name,
        orientation="h",
        marker_color=colour,
        x=values,
        y=list(range(len(labels))),
        hovertext=[literal(label) for label in labels],
        hovertemplate=f"%{{hovertext}}<br>{hover}",
    )


def columns(bars: list[go.Bar], below: str, beside: str, **axis: Any) -> go.Figure | None:
    """Give a figure of upright bars on top of each other."""
    if not any(one.y for one in bars):
        return None
    figure = styled(bars, 360)
    figure.update_xaxes(title_text=below, **axis)
    figure.update_yaxes(title_text=beside, rangemode="tozero")
    return figure


def rows_of(
    bars: list[go.Bar], labels: list[str], below: str, barmode: str = "stack"
) -> go.Figure | None:
    """Give a figure of lying bars, the first on top."""
    if not labels:
        return None
    figure = styled(bars, 150 + 28 * len(labels), barmode)
    figure.update_xaxes(title_text=below, rangemode="tozero")
    if max((value or 0 for one in bars for value in one.x), default=0) < FEW:
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=[f"{literal(shortened(label))}&nbsp;" for label in labels],
    )
    return figure


def styled(bars: list[go.Bar], height: int, barmode: str = "stack") -> go.Figure:
    """Give a figure with what all have in common."""
    figure = go.Figure(bars)
    figure.update_layout(
        template="none",
        barmode=barmode,
        bargap=0.25,
        height=height,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        font={"family": "system-ui, sans-serif", "size": 13, "color": TEXT},
        showlegend=len(bars) > 1,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        dragmode=False,
    )
    axis = {"automargin": True, "gridcolor": GRID, "zeroline": False, "fixedrange": True}
    figure.update_xaxes(title_standoff=12, **axis)
    figure.update_yaxes(title_standoff=12, **axis)
    return figure


def in_unit(minutes: list[float | None]) -> tuple[str, list[float | None]]:
    """Give the unit in which some times are easy to read, and the times in it."""
    if max((one or 0 for one in minutes), default=0) < HOURS_FROM:
        return "minutes", minutes
    return "hours", [one / 60 if one is not None else None for one in minutes]


def age(hours: float) -> str:
    """Give the name of the span that a time is in."""
    return next(name for end, name in AGES if hours < end)


def channel_name(platform: str) -> str:
    """Give the channel in words."""
    return literal(platform.replace("_", " "))


def literal(text: str) -> str:
    """Give a text that plotly shows as it is; it knows only these entities."""
    return escape(text, quote=False)


def shortened(label: str, longest: int = LONGEST_LABEL) -> str:
    """Give as much of a label as fits beside a chart on a phone."""
    return label if len(label) <= longest else f"{label[: longest - 1]}…"


# The file


def report(connection: duckdb.DuckDBPyConnection) -> str:
    """Give the whole page."""
    responding, waiting, days, tags, ads = (
        recipes.answer(connection, recipes.sql(recipe)) for recipe in recipes.RECIPES
    )
    del responding  # medians of medians say nothing
    responses = recipes.answer(connection, RESPONSES)
    charts = (
        messages_per_day(days),
        response_by_hour(responses),
        response_by_staff(responses),
        open_by_age(waiting),
        tag_funnel(tags),
        customers_by_ad(ads),
    )
    (summary,) = recipes.answer(connection, SUMMARY)
    summary["span"] = "{first} to {last} · ".format(**summary) if summary["messages"] else ""
    return DOCUMENT.format(
        text=TEXT,
        script=get_plotlyjs(),
        summary="Pages: {pages:,} · conversations: {conversations:,} · messages: {messages:,} · "
        "{span}open conversations as of {as_of} UTC".format(**summary),
        sections="\n".join(chart.html(number) for number, chart in enumerate(charts, 1)),
    )


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(prog="python -m scripts.report", description=__doc__)
    recipes.arguments(parser)
    parser.add_argument(
        "output", nargs="?", type=Path, help="default: report.html in the directory"
    )
    options = parser.parse_args()
    output = options.output or options.directory / "report.html"
    with closing(recipes.opened(options.directory, options.as_of)) as connection:
        output.write_text(report(connection), encoding="utf-8")
    print(f"Charts: {output}")


if __name__ == "__main__":
    main()
