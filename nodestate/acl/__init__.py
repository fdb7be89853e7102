"""Permissions: pure functions. Policies and tokens have their place here; until they are built every request is allowed."""
