"""Scoring of models: benchmark tasks by lm-eval, and bits per byte on held-out text.

Nothing in this wing needs the network; saying so here, before any of the libraries is imported, keeps
them from trying.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
