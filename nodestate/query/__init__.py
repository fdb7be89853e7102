"""Reading: pure functions over a view of the state."""
