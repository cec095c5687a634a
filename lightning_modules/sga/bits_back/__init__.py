"""Bits-back coding of the hyperprior's z: Yang, Bamler, Mandt 2020, section 3.3."""
