"""Evaluators for gsegkit: masks (foreground / background) and clusters (parts)."""
