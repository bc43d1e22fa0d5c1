"""What `mambasdk train`, `evaluate` and `predict --plot` do with the models, a module for each head."""
