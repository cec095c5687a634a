"""Relative entropy coding: Flamich, Havasi, Hernandez-Lobato, "Compressing Images by Encoding Their Latent
Representations with Relative Entropy Coding", NeurIPS 2020 (arXiv:2010.01185)."""
