"""What the commands do with models, a module for each head."""
