"""Launches: their stages, the builds that they share, and the tickets by which they are found again."""
