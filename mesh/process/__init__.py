"""What every process of ours needs: its signals, its parent, its end."""
