"""Measurements of gsegkit: recipes, the runner, its results, and the numbers that pages show. See README.md."""
