"""From files to arrays of a network: crop, normalisation, resampling, and what is stored of a data set."""
