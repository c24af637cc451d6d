"""Batches and data sources."""
