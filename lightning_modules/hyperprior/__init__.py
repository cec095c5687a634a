"""The mean-scale hyperprior without context (Minnen et al. 2018, as used by Yang et al. 2020)."""
