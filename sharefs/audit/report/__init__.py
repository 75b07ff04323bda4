"""Reports of an audit: the access matrix as a value, and the two forms people read it in.

`matrix` and `model` hold the values, `classes` computes the matrix without asking about every
user, `html` writes one file that needs no network, `terminal` writes text.  All pure: nothing here
reads or writes a file.
"""
