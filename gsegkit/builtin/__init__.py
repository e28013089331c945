"""The parts that come with the core."""
