"""Many jobs of one sweep, each a process of its own."""
