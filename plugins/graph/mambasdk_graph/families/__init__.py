"""Model families on graphs."""
