"""How tests start commands and processes as users do, make small inputs, and read what loggers have left."""
