"""The commands, one module a theme. Light: torch is imported inside the functions that need it."""
