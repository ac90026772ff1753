"""Figures and one page of HTML from the results of many runs."""
