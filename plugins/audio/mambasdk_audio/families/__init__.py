"""Model families: configuration, module and checkpoint importer of each. Needs torch."""
