"""Runs on one machine: threads and SQLite. What a run is made of, how it begins, is driven, and is kept."""
