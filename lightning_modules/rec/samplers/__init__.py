"""Samplers that turn a posterior into the index of a shared random sample."""
