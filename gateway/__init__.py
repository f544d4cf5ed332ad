"""The gateway process: HTTP in, HTTP out; it owns every request that it accepted."""
