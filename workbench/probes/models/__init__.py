"""Models of E stacked members: one model a file, written by hand in batched matrix products."""
