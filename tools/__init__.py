"""Programs for those who work on the project: they write its pages, storm its cloud and fuzz its image work."""
