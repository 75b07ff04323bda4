"""The FUSE file system: the sharing model enforced for every program.  docs/mount.md.

Two trees.  The view (`view`) shows each caller the mailboxes that are his and those shared with
him, under the rights of their ACLs.  The mirror (`tree`) shows one directory as it is and applies
the creation rules.  `policy` decides, `gate` is the only way to a file, the handlers translate.
"""
