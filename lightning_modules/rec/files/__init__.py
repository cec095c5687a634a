"""What relative entropy coding writes into files."""
