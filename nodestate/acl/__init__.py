"""Permissions: pure functions over policies and a token.

Nothing is here yet: no token is asked for, and whoever reaches the HTTP port may do
everything. The name of the permission that each route will need stands in its line of
the route table, so that the check has one place to come to.
"""
