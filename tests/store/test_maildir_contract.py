"""Maildir keeps the contract of storages, in every layout and with control files elsewhere."""

from pathlib import Path

import pytest

from sharefs.names import Layout, Naming
from sharefs.store.interface import Storage
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.store.contract import StorageContract


class TestMaildirpp(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return MaildirStorage(MaildirConfig(tmp_path / "Maildir"))


class TestFs(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return MaildirStorage(MaildirConfig(tmp_path / "Maildir", naming=Naming(Layout.FS)))


class TestControlElsewhere(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return MaildirStorage(
            MaildirConfig(tmp_path / "Maildir", control=tmp_path / "control", save_crlf=True)
        )


class TestInboxElsewhere(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        naming = Naming(Layout.FS, utf8=True)
        return MaildirStorage(
            MaildirConfig(tmp_path / "mail", naming=naming, inbox_path=tmp_path / "in" / "box")
        )
