"""Pictures of results, for `mambasdk predict --plot`; a module for each kind. They need matplotlib."""
