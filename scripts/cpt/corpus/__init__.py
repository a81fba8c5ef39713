"""Documents, filters, deduplication, contamination, tokens and packing."""
