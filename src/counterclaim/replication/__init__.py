"""What the numbers that a paper reported can support."""
