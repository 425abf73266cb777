"""What the bytes of one packet say without decoding it: how many pictures it shows, whether decoding may begin with it,
and whether it can be what it claims to be.

A container's key frame flag alone is not enough: files exist that flag every packet. Only codecs are listed for which a
packet's own header settles the matter; a film of any other codec is decoded from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

_START_CODE = b"\0\0\1"


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """What one packet is."""

    shown_count: int = 1
    """Pictures that it shows; 0 if it only helps to predict others."""
    is_entry: bool = False
    """Pictures shown from this packet's first on do not depend on anything before it, by the stream's own word."""
    break_reason: str = ""
    """Why pictures before or in this packet may be lost although they are in the file; empty if none is."""


Inspect = Callable[[bytes, bool], PacketFacts]
"""(payload, whether the container flags it as a key frame) -> facts."""

_PLAIN = PacketFacts()
_ENTRY = PacketFacts(is_entry=True)
_HIDDEN = PacketFacts(shown_count=0)


def _broken(what: str) -> PacketFacts:
    return PacketFacts(break_reason=what)


def packet_inspector(codec: str, *, extradata: bytes, is_intra_only: bool) -> Inspect | None:
    """The function that reads the packets of one stream.

    Args:
        codec: libav's canonical name of the codec.
        extradata: The stream's global header; tells whether NAL units carry lengths or start codes, and how long
            lengths are. Source: ISO/IEC 14496-15 5.3.3.1 (avcC) and 8.3.3.1 (hvcC).
        is_intra_only: Every packet of the codec is one picture that depends on no other.

    Returns:
        None if packets of this codec do not say enough.
    """
    if codec == "h264":
        length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0
        return lambda payload, is_key: _inspect_h264(payload, is_key, length_bytes)
    if codec == "hevc":
        length_bytes = (extradata[21] & 3) + 1 if len(extradata) > 22 and extradata[0] == 1 else 0
        return lambda payload, is_key: _inspect_hevc(payload, is_key, length_bytes)
    by_name: dict[str, Inspect] = {
        "av1": _inspect_av1,
        "ffv1": lambda _payload, is_key: _ENTRY if is_key else _PLAIN,  # its decoder refuses to begin anywhere else
        "mjpeg": _inspect_mjpeg,
        "mpeg1video": _inspect_mpeg2,
        "mpeg2video": _inspect_mpeg2,
        "prores": _inspect_prores,
        "vp8": _inspect_vp8,
        "vp9": _inspect_vp9,
    }
    if codec in by_name:
        return by_name[codec]
    return (lambda _payload, _is_key: _ENTRY) if is_intra_only else None


# --- H.264 and HEVC ---------------------------------------------------------------------------------------------------


def _nal_units(payload: bytes, length_bytes: int, *, is_whole: bool) -> Iterator[tuple[int, int]] | None:
    """(start, stop) of the NAL units; None if their lengths do not add up to the packet.

    With start codes and without ``is_whole`` nothing is searched: those packets were cut out by a parser.
    """
    if not length_bytes:
        return _units_by_start_code(payload) if is_whole else iter(())
    units = []
    position, size = 0, len(payload)
    while position + length_bytes <= size:
        start = position + length_bytes
        position = start + int.from_bytes(payload[position:start], "big")
        units.append((start, position))
    return iter(units) if position == size and units else None


def _units_by_start_code(payload: bytes) -> Iterator[tuple[int, int]]:
    found = payload.find(_START_CODE)
    while found >= 0:
        following = payload.find(_START_CODE, found + 3)
        yield found + 3, following if following >= 0 else len(payload)
        found = following


def _inspect_h264(payload: bytes, is_key: bool, length_bytes: int) -> PacketFacts:
    """Source: ITU-T H.264 table 7-1 (NAL unit types), D.1.8 and D.2.8 (recovery point)."""
    units = _nal_units(payload, length_bytes, is_whole=is_key)
    if units is None:
        return _broken("a packet's NAL units do not fit it")
    is_exact = is_idr = False
    for start, stop in units:
        if stop <= start or payload[start] & 0x80:
            return _broken("a NAL unit is malformed")
        kind = payload[start] & 0x1F
        is_idr |= kind == 5
        if kind == 6 and is_key:
            is_exact |= _has_exact_recovery_point(payload[start + 1 : stop])
        if kind in {1, 5} and not length_bytes:
            break  # the rest of a packet with start codes is slices
    return _ENTRY if is_key and (is_idr or is_exact) else _PLAIN


def _has_exact_recovery_point(message: bytes) -> bool:
    """Whether an SEI says that all that is shown from here on is exact: count 0, exact match, no broken link."""
    message = message.replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(message):
        kind = length = 0
        while position < len(message) and message[position] == 0xFF:
            kind, position = kind + 255, position + 1
        kind, position = kind + (message[position] if position < len(message) else 0), position + 1
        while position < len(message) and message[position] == 0xFF:
            length, position = length + 255, position + 1
        length, position = length + (message[position] if position < len(message) else 0), position + 1
        if kind == 6:
            # ue(v) 0 is the bit 1, then exact_match_flag 1, then broken_link_flag 0
            return position < len(message) and message[position] >> 5 == 0b110
        position += length
    return False


def _inspect_hevc(payload: bytes, is_key: bool, length_bytes: int) -> PacketFacts:
    """Source: ITU-T H.265 table 7-1 (NAL unit types), 7.3.6.1 (slice header), 8.1.3 (what is not output)."""
    units = _nal_units(payload, length_bytes, is_whole=is_key)
    if units is None:
        return _broken("a packet's NAL units do not fit it")
    is_entry = False
    for start, stop in units:
        if stop - start < 3 or payload[start] & 0x80:
            if stop - start == 2 and payload[start] >> 1 in {36, 37}:  # end of sequence, end of bitstream
                return _broken("a sequence ends within the film")
            return _broken("a NAL unit is malformed")
        kind = payload[start] >> 1
        if kind in {36, 37}:
            return _broken("a sequence ends within the film")
        if 16 <= kind <= 18:  # after a broken link, pictures that lead it are not output
            return _broken("the film was joined without a new beginning (broken link access)")
        if 19 <= kind <= 21:
            if payload[start + 2] & 0x40:  # no_output_of_prior_pics_flag
                return _broken("a key frame discards the pictures before it")
            is_entry = True
        if kind < 32 and not length_bytes:
            break  # the rest of a packet with start codes is slices
    return _ENTRY if is_key and is_entry else _PLAIN


# --- MPEG-1 and MPEG-2 ------------------------------------------------------------------------------------------------


def _inspect_mpeg2(payload: bytes, is_key: bool) -> PacketFacts:
    """An entry has a sequence header and an I picture. Source: ISO/IEC 13818-2 6.2.2 and 6.2.3."""
    if not is_key or payload.find(b"\0\0\1\xb3") < 0:
        return _PLAIN
    picture = payload.find(b"\0\0\1\0")
    is_intra = 0 <= picture < len(payload) - 5 and payload[picture + 5] >> 3 & 7 == 1
    return _ENTRY if is_intra else _PLAIN


# --- VP8, VP9, AV1 ----------------------------------------------------------------------------------------------------


def _inspect_vp8(payload: bytes, is_key: bool) -> PacketFacts:
    """Source: RFC 6386 9.1: bit 0 is 0 in key frames, bit 4 is show_frame; key frames bear a start code."""
    is_intra = not payload[0] & 1
    if is_intra and payload[3:6] != b"\x9d\x01\x2a":
        return _broken("a key frame has no start code")
    if not payload[0] & 0x10:
        return _HIDDEN
    return _ENTRY if is_key and is_intra else _PLAIN


def _inspect_vp9(payload: bytes, is_key: bool) -> PacketFacts:
    """Source: VP9 bitstream specification 6.2 (uncompressed header) and annex B (superframes)."""
    headers = [_vp9_header(payload[start] if stop > start else 0) for start, stop in _vp9_frames(payload)]
    if not headers or any(header is None for header in headers):
        return _broken("a packet is not VP9")
    shown_count = sum(header[1] for header in headers if header is not None)
    if shown_count > 1:
        return _broken("a packet shows several pictures")
    first = headers[0]
    if not shown_count:
        return _HIDDEN
    return _ENTRY if is_key and first is not None and first[0] else _PLAIN


def _vp9_frames(payload: bytes) -> list[tuple[int, int]]:
    last = payload[-1]
    count, width = (last & 7) + 1, (last >> 3 & 3) + 1
    index_bytes = 2 + count * width
    if last & 0xE0 != 0xC0 or len(payload) < index_bytes or payload[-index_bytes] != last:
        return [(0, len(payload))]
    frames, position = [], 0
    sizes = payload[-index_bytes + 1 : -1]
    for number in range(count):
        size = int.from_bytes(sizes[number * width : (number + 1) * width], "little")
        frames.append((position, position + size))
        position += size
    return frames if position <= len(payload) - index_bytes else []


def _vp9_header(first: int) -> tuple[bool, bool] | None:
    """(is a key frame, is shown) from the first byte of a frame; None if it cannot be one."""
    if first >> 6 != 0b10:
        return None
    bits = first & 0b1111
    if first & 0b110000 == 0b110000:  # profile 3 has a reserved bit, 0, before the others
        if first & 0b1000:
            return None
        bits = first << 1 & 0b1111
    if bits & 0b1000:  # show_existing_frame
        return False, True
    return not bits & 0b0100, bool(bits & 0b0010)


def _inspect_av1(payload: bytes, is_key: bool) -> PacketFacts:
    """A temporal unit shows one picture; a shown key frame replaces all references.

    Source: AV1 bitstream specification 5.3 (OBU header), 5.9.2 (uncompressed header), 7.5 (temporal units).
    """
    position, size = 0, len(payload)
    is_entry: bool | None = None
    while position < size:
        header = payload[position]
        if header & 0x80:
            return _broken("a packet is not AV1")
        body = position + 1 + (header >> 2 & 1)
        if header & 2:  # has a size
            length, body = _leb128(payload, body)
        else:
            length = size - body
        if body + length > size or length < 0:
            return _broken("a packet's units do not fit it")
        if is_entry is None and header >> 3 & 15 in {3, 6} and length:  # frame header, frame
            # show_existing_frame 0, frame_type 00 (key), show_frame 1
            is_entry = payload[body] >> 4 == 0b0001
        position = body + length
    return _ENTRY if is_key and is_entry else _PLAIN


def _leb128(payload: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it); a length of -1 if it does not end."""
    value = 0
    for shift in range(0, 56, 7):
        if position >= len(payload):
            break
        byte = payload[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if not byte & 0x80:
            return value, position
    return -1, position


# --- codecs of single pictures ----------------------------------------------------------------------------------------


def _inspect_mjpeg(payload: bytes, _is_key: bool) -> PacketFacts:
    """Source: ITU-T T.81 B.1.1.3, SOI."""
    return _ENTRY if payload[:2] == b"\xff\xd8" else _broken("a packet is not a JPEG picture")


def _inspect_prores(payload: bytes, _is_key: bool) -> PacketFacts:
    """Source: SMPTE RDD 36 5.1, frame_size and frame identifier."""
    is_whole = payload[4:8] == b"icpf" and int.from_bytes(payload[:4], "big") <= len(payload)
    return _ENTRY if is_whole else _broken("a packet is not a ProRes picture")
