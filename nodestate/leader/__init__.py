"""The loops that run on the leader only."""
