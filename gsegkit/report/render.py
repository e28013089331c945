"""Draws report/index.html: one file, no network, no script but its own."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gsegkit.engine.ranking import in_groups
from gsegkit.engine.scoring import NEW_PAIRS_FOLDER
from gsegkit.progress import duration, number
from gsegkit.report import pictures, read
from gsegkit.report.charts import histogram, line_chart
from gsegkit.report.read import show
from gsegkit.report.verdict import LOW, Verdict, verdict
from gsegkit.rundir import SCORES_FILE
from gsegkit.storage import atomic_write

FIRST = 6  # predictions that are seen at once; the others can be unfolded
FIRST_SCORES = 5
PAGE = Path("report") / "index.html"


def render_report(folder: str | Path) -> Path:
    """Draw a run's report from what lies in its folder, whatever is missing there.

    Returns:
        The page, `report/index.html` in the run folder.

    Raises:
        ArtifactError: not a run folder.
        StorageError: the page cannot be written.
    """
    folder = Path(folder)
    atomic_write(folder / PAGE, _page(folder).encode())
    return folder / PAGE


def _page(folder: Path) -> str:
    source = read.Source(folder)
    run = read.overview(source)
    metrics = read.metrics(source)
    dataset = pictures.dataset_section(source)
    timings = read.timings(source)
    predictions, new_pairs = _predictions(source, run, metrics, dataset)
    groups, more = _grouped(predictions)
    headline = verdict(run, metrics)
    style, script = files("gsegkit").joinpath("style.css").read_text(encoding="utf-8"), _asset("script.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html.j2")).render(
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=version("gsegkit"),
        run=run,
        metrics=metrics,
        dataset=dataset,
        timings=timings,
        verdict=headline,
        status=_status(run, headline),
        predictions=predictions,
        groups=groups,
        more=more,
        new_groups=_grouped(new_pairs)[0],
        legend_entries=_legend(source, run, metrics, dataset),
        first=FIRST,
        first_scores=FIRST_SCORES,
        figures=pictures.figures(source),
        colours={entry.name: entry.colour for entry in dataset["legend"]} if dataset else {},
        tiles=_tiles(run, metrics, dataset, timings),
        curves=_curve_charts(read.curves(source)),
        scores=_score_charts(dataset),
        image_charts=_histograms(read.image_columns(metrics["per_image"]), "images") if metrics else [],
        warnings=[*run["warnings"], *source.problems],
    )


def _asset(name: str) -> str:
    return files("gsegkit.report").joinpath(name).read_text(encoding="utf-8")


def _tiles(
    run: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    dataset: Mapping[str, Any] | None,
    timings: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the numbers at the top."""
    tiles = []
    if run["classes"]:
        shown = f"shown as {len(run['shown_parts'])} parts" if run["shown_parts"] else ""
        tiles.append(("classes found", number(len(run["classes"])), shown))
    if dataset:
        candidates = dataset["funnel"][0]["count"]
        tiles.append(("pairs made", number(dataset["pairs"]), f"of {number(candidates)} candidates"))
    if (learned := run["learned"]) and metrics:
        tiles.append(("masks learned", show(learned.get("miou")), f"mIoU on {show(learned.get('pairs'))} new pairs"))
    seconds = run["seconds"] if read.is_number(run["seconds"]) else sum(row["seconds"] for row in timings)
    tiles.append(("time", duration(seconds), f"on {run['device']}"))
    return tiles


def _status(run: Mapping[str, Any], headline: Verdict | None) -> tuple[str, str]:
    """What to say of the run's end, and its style: a finished run is no success when its score is low."""
    status = run["status"]
    if status != "done":
        return status, "busy" if status == "running" else "bad"
    low = headline is not None and headline.rating == LOW
    return ("finished, but its score is low", "warn") if low else ("done", "good")


def _predictions(
    source: read.Source,
    run: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    dataset: Mapping[str, Any] | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Pictures with predictions: those of the evaluation or photographs, and new generated ones."""
    folder = source.folder / "report"
    classes = run["classes"] or (dataset["classes"] if dataset else [])
    classes = run["shown_parts"] if metrics is None and run["shown_parts"] else classes
    per_image = metrics["per_image"] if metrics else {}
    truth = [name for name, _ in metrics["per_class"]["rows"]] if metrics else []
    shown = pictures.predictions(source, folder / "predictions", per_image, classes, truth)
    scores = read.as_dict(source.json("report", NEW_PAIRS_FOLDER, SCORES_FILE).get("per_image"))
    new = pictures.predictions(source, folder / NEW_PAIRS_FOLDER, scores, run["classes"], run["classes"])
    return shown, new


def _grouped(
    items: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Mapping[str, Any]]], list[Mapping[str, Any]]]:
    """Best, median and worst of pictures that have scores, {} without; and those that are unfolded."""
    places = in_groups(range(len(items))) if all(item["rank"] is not None for item in items) else {}
    if not places:
        return {}, list(items[FIRST:])
    taken = {place for group in places.values() for place in group}
    groups = {name: [items[place] for place in group] for name, group in places.items()}
    return groups, [item for place, item in enumerate(items) if place not in taken]


def _legend(
    source: read.Source,
    run: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    dataset: Mapping[str, Any] | None,
) -> list[pictures.LegendEntry]:
    """Of the predictions."""
    classes = run["shown_parts"] if metrics is None and run["shown_parts"] else run["classes"]
    if not classes:
        return dataset["legend"] if dataset else []
    return pictures.legend(classes, palette=pictures.palette_of(source, classes))


def _curve_charts(
    stages: Sequence[tuple[str, dict[str, dict[str, list[tuple[float, float]]]]]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    shown = []
    for stage, charts in stages:
        drawn = [
            {
                "name": name,
                "svg": line_chart(series, f"{name} of {stage}"),
                "lines": list(series) if len(series) > 1 else [],
                "facts": "",
            }
            for name, series in charts.items()
        ]
        shown.append((stage, [chart for chart in drawn if chart["svg"]]))
    return shown


def _score_charts(dataset: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if dataset is None:
        return []
    return _histograms({"share outside class 0": dataset["coverage"], **dataset["scores"]}, "pairs")


def _histograms(columns: Mapping[str, Sequence[float]], of: str) -> list[dict[str, Any]]:
    charts = []
    for name, values in columns.items():
        ordered = sorted(value for value in values if math.isfinite(value))
        if ordered:
            facts = f"{number(ordered[0])} … median {number(ordered[len(ordered) // 2])} … {number(ordered[-1])}"
            svg = histogram(ordered, f"histogram of {name} over {len(ordered)} {of}")
            charts.append({"name": name, "svg": svg, "lines": [], "facts": f"{facts}, {len(ordered):,} {of}"})
    return charts
