"""Text rules: a title, query or review -> its clean form, a decision, reasons (slide 2.2)."""

from kmm_jax.corpus.text.clean import Cleaned, Cleaner, clean, clean_batch
from kmm_jax.corpus.text.rules import PERSONAL, REASONS, TextRules

__all__ = ["PERSONAL", "REASONS", "Cleaned", "Cleaner", "TextRules", "clean", "clean_batch"]
