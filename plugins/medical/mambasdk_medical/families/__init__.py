"""The package's families, a folder each."""
