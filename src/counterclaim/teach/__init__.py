"""Teachers in stages to training examples: every prompt goes through a graph of models, and what comes out through filters and gates."""
