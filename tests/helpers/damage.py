"""What a crash, a failing disk or a hand does to files."""

import os


def flip(path):
    """Change four bytes in the middle."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = bytes(byte ^ 0x55 for byte in content[middle : middle + 4])
    path.write_bytes(content)


def truncate(path):
    """Lose the second half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    """What a power cut makes of a file that was not synced."""
    path.write_bytes(b"")


def make_a_folder(path):
    """Another thing of that name."""
    path.unlink()
    path.mkdir()


DAMAGE = {
    "flipped": flip,
    "truncated": truncate,
    "empty": empty,
    "gone": os.unlink,
    "a folder": make_a_folder,
}
