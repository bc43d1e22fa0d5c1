"""What the medical families share."""
