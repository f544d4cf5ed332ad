"""What settings mean beyond their values."""
