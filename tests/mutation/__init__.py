"""Mutation of the implementations: every change of their arithmetic must be noticed.

``changes_*`` make mutants of a file's text, ``ask_*`` put the questions to a mutant, ``questions``
has what is asked, ``survivors`` the mutants that are known to change no answer, with the reason.
"""
