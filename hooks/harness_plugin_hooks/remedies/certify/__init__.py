"""Which remedy is certified, by which bounds, on rows that chose nothing."""
