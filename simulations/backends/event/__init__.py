"""Discrete events on a heap."""
