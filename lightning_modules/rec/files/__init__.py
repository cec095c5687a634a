"""Files of relative entropy coding."""
