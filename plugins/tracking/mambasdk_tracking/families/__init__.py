"""Model families of this plugin."""
