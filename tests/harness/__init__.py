"""How tests start commands and processes as users do, and read what loggers have left."""
