"""Named scenarios, one per file; their place."""
