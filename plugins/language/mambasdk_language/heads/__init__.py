"""What `mambasdk train`, `generate` and `evaluate` do with the models, a module for each head."""
