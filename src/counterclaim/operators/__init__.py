"""What changes how a model behaves. Importing this package registers the built-in operators and rewards, and imports no torch."""
