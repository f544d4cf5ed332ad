"""What an operator asks a gateway: health, status, metrics."""
