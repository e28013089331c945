"""JSON, YAML and TOML in files: one boundary that checks size, depth, types and numbers; and what parts may hold."""
