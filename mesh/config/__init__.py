"""The settings of a service: their declarations, sources and checks."""
