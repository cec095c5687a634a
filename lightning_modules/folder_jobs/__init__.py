"""One folder of files, worked through by many processes."""
