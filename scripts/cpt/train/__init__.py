"""Batches, schedules, losses, engines, checkpoints and metrics."""
