"""One replica of a stage: receives tasks, batches them, runs the worker, forwards the results."""
