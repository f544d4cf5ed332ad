"""What `make bench-scale` measures beyond the table: tails, batches, costs, arrays, starts, memory.

Each module is one measurement: a function that returns `Finding`s.
"""
