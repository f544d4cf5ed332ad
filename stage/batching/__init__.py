"""Which tasks run together, and when."""
