"""Optimizers, learning rates and losses that trainings of several papers share."""
