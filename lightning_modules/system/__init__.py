"""Files, processes, memory and signals of the operating system."""
