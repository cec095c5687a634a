"""Examination of a machine: versions, devices, and whether decoding is exact."""
