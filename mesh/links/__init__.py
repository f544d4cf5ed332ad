"""Sessions between processes: who is connected, what is owed, who is gone. Internal."""
