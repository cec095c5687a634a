"""Classical codecs, as baselines and for comparison."""
