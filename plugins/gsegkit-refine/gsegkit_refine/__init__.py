"""Refiners for gsegkit: area, components, change, confidence, holes, guided."""
