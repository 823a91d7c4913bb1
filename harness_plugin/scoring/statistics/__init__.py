"""Intervals, resampling and exact tests: functions of counts and arrays."""
