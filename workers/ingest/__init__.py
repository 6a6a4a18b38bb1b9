"""From an accepted upload to activities: the queue hints, the inbox knows, and every step may be repeated."""
