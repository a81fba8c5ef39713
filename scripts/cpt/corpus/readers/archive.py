"""Opens formats that are Zip archives, within limits."""

import io
import zipfile

from cpt.errors import UserError

LARGEST = 2**28  # bytes of all members, unpacked


def members_of(content: bytes) -> zipfile.ZipFile:
    """The opened archive. Raises UserError if it is damaged, or unpacks to more than `LARGEST`."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"it is no complete Zip archive ({error}); fetch or make it again") from None
    # A member never unpacks to more than the size that it states.
    size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST:
        raise UserError(
            f"it would unpack to {size / 2**20:,.0f} MiB, more than the {LARGEST // 2**20} that are read; if "
            "it is what it should be, split it, or name its parts"
        )
    return archive
