"""Model families, a folder each: spec, config, model, checkpoint. This file imports none of them."""
