"""What each process of ours arranges with its operating system."""
