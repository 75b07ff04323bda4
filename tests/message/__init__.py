"""Tests of sharefs.message."""
