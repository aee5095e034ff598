"""Other harnesses' results, read into records."""
