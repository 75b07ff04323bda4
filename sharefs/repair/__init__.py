"""Planning, applying and undoing changes of permissions and shares: see docs/repair.md."""
