"""Figures and tables of single lessons: a notebook imports what it shows, and `name??` shows how it is made."""
