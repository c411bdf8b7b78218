"""Pages of results: their tables are kept as records, and written from them."""
