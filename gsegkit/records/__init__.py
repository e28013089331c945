"""JSON, YAML and TOML in files: one boundary that checks size, depth, types and numbers. Imports no torch."""
