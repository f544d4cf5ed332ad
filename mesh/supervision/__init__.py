"""Processes of a service: started, watched, ended."""
