"""Statistics, tables, figures and the paper."""
