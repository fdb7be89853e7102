"""What should be proposed next: pure functions over a view and a time."""
