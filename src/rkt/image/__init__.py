"""From the word a user types to a verified image in the store: reference, source, verification, import."""
