"""What the gateway knows and decides of the requests that it owns."""
