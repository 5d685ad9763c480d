"""Stored data into more stored data: bronze to silver to gold. Not built yet."""
