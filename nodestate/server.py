"""Puts a server together: builds every room and hands each what it needs."""
