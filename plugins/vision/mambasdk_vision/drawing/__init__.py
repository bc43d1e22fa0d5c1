"""Pictures of results: one file for each kind. Need matplotlib."""
