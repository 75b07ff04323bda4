"""Helpers that more than one area of the tests uses."""
