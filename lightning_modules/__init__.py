"""Codecs, one package for each paper, and what they share."""
