"""Model families: configuration, module factory and checkpoint importer of each. Needs torch."""
