"""The conformance kit: checks that any plugin's components can run, and pytest helpers."""
