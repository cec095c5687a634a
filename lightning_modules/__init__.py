"""The rooms (one per paper) and the paper-free floor they stand on."""
