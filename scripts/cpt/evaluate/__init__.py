"""Scoring of models: benchmark tasks by lm-eval, and bits per byte on held-out text.

Scoring needs no network; saying so here, before any of the libraries is imported, keeps them from trying.
(fetch_benchmarks, which may need it, imports the hub's client first.)
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
