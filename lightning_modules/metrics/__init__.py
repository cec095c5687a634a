"""Measures of picture quality, one function each."""
