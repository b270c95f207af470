"""Tells a JPEG that was damaged from a whole one: decoders fill up what is missing, and say nothing."""

import re

from simplejpeg import decode_jpeg

# libjpeg's remark on bytes that no code stands for, just before the end. Some cameras pad; who lost the thread in the
# middle has far more left over.
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MAX_PADDING_BYTES = 64

# How table K.5 of ITU-T T.81 begins, the Huffman codes that nearly all cameras write with. Zeros in a row stand for no
# picture in it: of 135 photos the longest run was 3 bytes. (In tables made for one picture a flat area may be zeros.)
_USUAL_CODES = bytes.fromhex("010203000411051221314106135161")
_ZEROS = bytes(64)
_START_OF_SCAN, _BASELINE = b"\xff\xda", b"\xff\xc0"


def damage_of(content: bytes) -> str | None:
    """Return what is wrong with a JPEG file, in words; None if it is whole.

    All its codes are read, but hardly any picture is made of them: 0.16 s for twelve million pixels. Bytes behind the
    end are no damage, as phones append videos and depth there.

    Args:
        content: A file that begins as a JPEG does.
    """
    try:
        decode_jpeg(content, colorspace="GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        left_over = _LEFT_OVER.search(str(error))
        if not left_over or int(left_over[1]) > _MAX_PADDING_BYTES:
            return str(error).removeprefix("Corrupt JPEG data: ")
    scan = content.find(_START_OF_SCAN)
    if _BASELINE in content[:scan] and _USUAL_CODES in content[:scan] and _ZEROS in content[scan:]:
        return f"{len(_ZEROS)} zero bytes or more in a row, where no picture has any"
    return None
