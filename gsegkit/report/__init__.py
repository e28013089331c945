"""The report of a run: one self-contained page, drawn from what lies in the run folder."""

from gsegkit.report.render import PAGE, render_report

__all__ = ["PAGE", "render_report"]
