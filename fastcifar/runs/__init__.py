"""A run, kept in a folder and used again."""
