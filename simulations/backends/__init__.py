"""Engines that run a scenario."""
