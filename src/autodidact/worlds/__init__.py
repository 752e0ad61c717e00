"""Generators of data whose truth is known: real material first, procedure around it.

What only the generator knows is in fields called ``truth_...``, which no method may need. Every world documents its
dials of difficulty and its nuisance.
"""
