"""Does a probe read a label off hidden states, on fresh answers too, and if not, why? Needs numpy and no model."""
