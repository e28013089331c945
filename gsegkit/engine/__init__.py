"""The main path: from a plan to a run folder."""
