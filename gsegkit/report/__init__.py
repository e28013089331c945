"""The report of a run: one self-contained page, drawn from what lies in the run folder."""

from gsegkit.report.render import render_report

__all__ = ["render_report"]
