"""The state machine: pure and total."""
