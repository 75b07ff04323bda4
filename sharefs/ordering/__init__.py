"""The order of messages among each other: sort keys and threads (RFC 5256, RFC 5957).  Pure.

facts: what is known of one message for this.  sorting, subjects, references: the algorithms.
None of them recurses, and all take n log n time whatever the messages say of each other.
"""
