"""Masks painted by hand: folders to annotate, their drafts, and the painting page as their editor."""
