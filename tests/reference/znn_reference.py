"""A decoder of the znn format, written from docs/FORMAT.md alone: slow, short, and independent of the library."""

import struct


class Bad(ValueError):
    """The data is not a valid frame."""


ELEMENT = {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 4, 8: 4, 9: 8, 10: 8, 11: 1, 12: 1, 13: 2, 14: 2, 15: 4, 16: 8}


def need(condition, message):
    if not condition:
        raise Bad(message)


def unzstd(data, size):
    import zstandard

    out = zstandard.ZstdDecompressor().decompress(bytes(data), max_output_size=size)
    need(len(out) == size, "zstd: size")
    return out


def narrow(data, lanes, count):
    """The symbols of the rows that hold `count`, and the lanes' last states."""
    n = data[0] + 1
    slots, start = [], 0
    for i in range(n):
        symbol, frequency = data[1 + 2 * i], data[2 + 2 * i]
        slots += [(symbol, frequency, k) for k in range(frequency)]
        start += frequency
    need(start == 256, "narrow: frequencies")
    at = 1 + 2 * n
    states = [data[at + l] | data[at + lanes + l] << 8 for l in range(lanes)]
    at += 2 * lanes
    out = bytearray()
    for _ in range(-(-count // lanes)):
        for l in range(lanes):
            symbol, frequency, offset = slots[states[l] & 255]
            out.append(symbol)
            x = frequency * (states[l] >> 8) + offset
            if x < 256:
                x = x << 8 | data[at]
                at += 1
            states[l] = x
    need(at == len(data), "narrow: bytes left over")
    return out[:count], states


def wide(data, count):
    first, last = data[0], data[1]
    at, slots = 2, []
    for symbol in range(first, last + 1):
        frequency = data[at]
        at += 1
        if frequency & 128:
            frequency = (frequency & 127) << 8 | data[at]
            at += 1
        slots += [(symbol, frequency, k) for k in range(frequency)]
    need(len(slots) == 4096, "wide: frequencies")
    states = list(struct.unpack_from("<32I", data, at))
    at += 128
    out = bytearray()
    for i in range(count):
        x = states[i % 32]
        symbol, frequency, offset = slots[x & 4095]
        out.append(symbol)
        x = frequency * (x >> 12) + offset
        if x < 65536:
            x = x << 16 | struct.unpack_from("<H", data, at)[0]
            at += 2
        states[i % 32] = x
    need(at == len(data), "wide: bytes left over")
    return out


def plane(data, at, size, form):
    """A plane's bytes, and where the next one begins."""
    if form == 0:
        return data[at : at + size], at + size
    if form == 1:
        return bytes([data[at]]) * size, at + 1
    coded = struct.unpack_from("<I", data, at)[0]
    at += 4
    body = data[at : at + coded]
    need(len(body) == coded, "plane: size")
    return (wide(body, size) if form == 2 else unzstd(body, size)), at + coded


def method_groups(data, size, element):
    count = size // element
    out, at = bytearray(size), element
    for b in range(element):
        values, at = plane(data, at, count, data[b])
        out[b : count * element : element] = values
    out[count * element :] = data[at:]
    need(len(out) == size, "groups: tail")
    return out


def method_float(data, size, element):
    coder, lanes_log, s, drop, base, rare_count, zero, forms, zero2, patch_size = struct.unpack_from("<BBBBHBBHHI", data)
    need(zero == 0 and zero2 == 0 and coder < 2, "float: header")
    count, tail = divmod(size, element)
    groups = -(-count // 64)
    width = 8 * element - drop
    rest_bits = width - s
    byte_planes, packed = divmod(rest_bits, 8)
    rare = struct.unpack_from("<%dH" % rare_count, data, 16)
    at = 16 + 2 * rare_count
    patches = data[at : at + patch_size]
    at += patch_size
    stop = len(data) - tail

    sizes = [64 * groups] * byte_planes + ([8 * packed * groups] if packed else [])
    raw = [p for p in range(len(sizes)) if forms >> 2 * p & 3 == 0]
    lanes = 1 << lanes_log
    held = min(15 * lanes // 8, sizes[raw[-1]]) if coder == 0 and raw else 0
    planes = []
    for p, plane_size in enumerate(sizes):
        values, at = plane(data, at, plane_size - (held if raw and p == raw[-1] else 0), forms >> 2 * p & 3)
        planes.append(values)
    if coder == 0:
        symbols, states = narrow(data[at:stop], lanes, 64 * groups)
        bits = sum((x & 0x7FFF) << 15 * l for l, x in enumerate(states))
        need(all(x >> 15 for x in states) and bits >> 8 * held == 0, "narrow: last states")
        if raw:
            planes[raw[-1]] = bytes(planes[raw[-1]]) + bits.to_bytes(15 * lanes // 8, "little")[:held]
    else:
        symbols = wide(data[at:stop], 64 * groups)
    if packed:
        text = bytes(planes[-1])
        planes[-1] = [
            (int.from_bytes(text[i * packed // 8 : i * packed // 8 + 2], "little") >> i * packed % 8) & ((1 << packed) - 1)
            for i in range(64 * groups)
        ]

    symbols = [(byte + base) % (1 << s) for byte in symbols]
    position = i = 0
    while i < len(patches):
        word = struct.unpack_from("<H", patches, i)[0]
        i += 2
        position += word & 4095
        if word >> 12 == 15:
            symbol = struct.unpack_from("<H", patches, i)[0]
            i += 2
        else:
            symbol = rare[word >> 12]
        if symbol != 65535:
            symbols[position] = symbol
        position += 1

    out = bytearray(64 * groups * element)
    for position in range(64 * groups):
        rest = sum(values[position] << 8 * p for p, values in enumerate(planes))
        v = (rest & 1) << width - 1 | symbols[position] << rest_bits - 1 | rest >> 1
        group, j = divmod(position, 64)
        index = 64 * group + 64 // element * (j % element) + j // element
        out[index * element : (index + 1) * element] = (v << drop).to_bytes(element, "little")
    return out[: count * element] + data[stop:]


def content(method, data, size, element):
    if method == 0:
        return data
    if method == 1:
        return bytes(data) * (size // element)
    if method == 2:
        return unzstd(data, size)
    if method == 3:
        return method_float(data, size, element)
    need(method == 4, "unknown method")
    return method_groups(data, size, element)


def decode(data, xxh3=None):
    """The content of the frames in `data`, and the methods seen. xxh3: bytes to the 64-bit hash, to check checksums."""
    out, methods, at = bytearray(), set(), 0
    while at < len(data):
        begin = at
        need(data[at : at + 4] == b"\x89ZNN", "magic")
        version, chunk_log, flags, size, zero, extensions, check = struct.unpack_from("<BBHQQII", data, at + 4)
        need(version == 1 and 16 <= chunk_log <= 22 and flags & ~3 == 0 and zero == 0, "header")
        at += 32
        if xxh3:
            need(xxh3(data[begin : begin + 28] + data[at : at + extensions]) & 0xFFFFFFFF == check, "header checksum")
        need(extensions <= 65536 and bool(flags & 1) == (size != 2**64 - 1), "header")
        end = at + extensions
        while at < end:
            number, length = struct.unpack_from("<HH", data, at)
            at += 4 + length
            need(number % 2 == 0 and at <= end, "extension")
        headers, table, frame = b"", b"", bytearray()
        while data[at] == 1:
            dtype, method, starts, content_size, stored, checksum = struct.unpack_from("<xBBBIIQ", data, at)
            need(starts < 2 and 0 < content_size <= 1 << chunk_log and stored <= content_size, "chunk header")
            payload = data[at + 20 : at + 20 + stored]
            need(len(payload) == stored, "truncated")
            piece = bytes(content(method, payload, content_size, ELEMENT[dtype]))
            need(len(piece) == content_size, "content size")
            need(not xxh3 or checksum == (xxh3(piece) if flags & 2 else 0), "chunk checksum")
            frame += piece
            methods.add(method)
            headers += data[at : at + 20]
            table += struct.pack("<II", content_size, stored + 20)
            at += 20 + stored
        end = at
        need(data[at : at + 8] == b"\x02" + bytes(7) and data[at + 8 : at + 8 + len(table)] == table, "chunk table")
        at += 8 + len(table)
        chunks, total, whole, frame_size, zero, check, magic = struct.unpack_from("<QQQQQI4s", data, at)
        need(chunks * 8 == len(table) and total == len(frame) and zero == 0 and magic == b"ZNN\x89", "trailer")
        need(size in (total, 2**64 - 1) and frame_size == at + 48 - begin, "trailer sizes")
        if xxh3:
            need(whole == (xxh3(headers) if flags & 2 else 0), "whole checksum")
            need(xxh3(data[end : at + 40]) & 0xFFFFFFFF == check, "table checksum")
        at += 48
        out += frame
    return bytes(out), methods
