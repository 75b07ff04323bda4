"""Sharing: ACL files, the list cache, who may do what, and the sharing map."""
