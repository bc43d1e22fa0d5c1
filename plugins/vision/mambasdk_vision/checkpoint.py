"""What the importers of the vision families share."""

UPSTREAM_ARGUMENTS = 'give the constructor\'s arguments (the golden files have them under "kwargs")'
