"""Progressive Synonymous Image Compression: arXiv 2505.22438 (ICML 2025)."""
