"""Several studies run one after another, told on one page."""
