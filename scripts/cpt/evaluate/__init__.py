"""Scoring of models: benchmark tasks by lm-eval, and bits per byte on held-out text.

Scoring needs no network. These variables, set before any library is imported, keep libraries offline.
(fetch_benchmarks may need the network, so it imports the hub's client first.)
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
