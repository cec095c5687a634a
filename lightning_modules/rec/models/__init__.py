"""Variational autoencoders whose latents are coded."""
