"""A search: what is tried, which trials go on, and who the finalists are."""
