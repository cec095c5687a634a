"""Refinement of latents per image: Yang, Bamler, Mandt 2020 (SGA); Perugachi-Diaz, Gansekoele, Bhulai 2024 (SGA+)."""
