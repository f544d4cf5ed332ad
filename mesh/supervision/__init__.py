"""Keeping the processes of a service running."""
