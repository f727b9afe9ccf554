from dataclasses import dataclass, field
from pathlib import Path

import pytest

from esmgn_core.errors import StructureError
from esmgn_core.io import ReadReport, read_structure


@dataclass
class Reader:
    """Writes text to a file and reads it."""

    folder: Path
    report: ReadReport = field(init=False, repr=False)

    def __call__(self, text, name="made_up.pdb"):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        protein, self.report = read_structure(path)
        return protein

    def refuses(self, text, name="made_up.pdb"):
        with pytest.raises(StructureError) as error:
            self(text, name)
        message = str(error.value)
        assert str(self.folder / name) in message
        return message.split(": ", 1)[1]


@pytest.fixture
def read(tmp_path):
    return Reader(tmp_path)
