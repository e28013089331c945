"""Common ground of extractors that cluster a generator's pixels. Open to plugins."""
