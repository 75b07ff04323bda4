"""Measurements, side by side with what administrators use today, in one run on one machine."""
