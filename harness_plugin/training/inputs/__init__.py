"""Rows as tensors: encoded once, batched by row number, moved to a device."""
