"""Readers of the data sets that the papers score on: each knows its layouts, lists, splits and masks."""
