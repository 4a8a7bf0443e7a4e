"""Which keys are trusted for which image names, and whether a signature was made by one of them."""
