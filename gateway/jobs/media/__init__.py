"""Images, sounds and videos on their way in: recognised, bounded, and fetched where they are named
by URLs."""
