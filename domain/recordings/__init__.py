"""What a device recorded and what it means: cleaning and analysis on numpy arrays, without I/O."""
