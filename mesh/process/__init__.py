"""What each of our processes arranges with the operating system."""
