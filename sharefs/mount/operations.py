"""All handlers of the file system."""

from sharefs.mount.attr_ops import AttributeOperations
from sharefs.mount.directory_ops import DirectoryOperations
from sharefs.mount.file_ops import FileOperations
from sharefs.mount.link_ops import LinkOperations
from sharefs.mount.xattr_ops import ExtendedOperations


class Operations(
    AttributeOperations, DirectoryOperations, FileOperations, LinkOperations, ExtendedOperations
):
    """Handlers by theme, one module each; they translate and call the tree."""

    def close(self) -> None:
        """After the mount has ended: let go of everything."""
        self.handles.close_all()
        self.tree.close()
