"""Typed HTTP client: used by the CLI, the lab and the tests."""
