"""What goes wrong with a measurement."""


class BenchmarkError(Exception):
    """Something that a measurement needs is missing or failed; the text says what."""
