"""What reads scores off answers: rules, oracles, judges, programs; each with its known-answer cards."""
