"""Several servers in one process, under a virtual clock; its place."""
