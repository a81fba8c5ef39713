"""Import of base models and their tokenizers, with checks."""
