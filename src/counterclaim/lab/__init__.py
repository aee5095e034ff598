"""What makes behaviour and measures it: models, scorers, operators, probes, training sets, and studies of one's own."""
