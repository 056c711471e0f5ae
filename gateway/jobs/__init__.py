"""Jobs on their way into the queue: models, limits, defaults, and the room that is left."""
