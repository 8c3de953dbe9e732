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


def unpack(data, bits, count):
    """`count` numbers of `bits` bits, least significant bit first."""
    number = int.from_bytes(data, "little")
    need(number >> bits * count == 0, "packed: bits left over")
    text = bytes(data) + b"\0\0"
    return [int.from_bytes(text[i * bits // 8 : i * bits // 8 + 2], "little") >> i * bits % 8 & (1 << bits) - 1
            for i in range(count)]


def narrow_table(data, at, s):
    """Slots (index or None for the escape, frequency, offset), symbols by index, the tail, and where the table ends."""
    base, far, escape, known = struct.unpack_from("<HBBQ", data, at)
    spread, base = base >> 15, base & 0x7FFF
    at += 12
    symbols, tail, entries = {}, [], [(None, escape)] * escape
    for k in range(64):
        index = (base + k) % 64
        if known >> index & 1:
            symbols[index] = base + k
            frequency = data[at]
            at += 1
            entries += [(index, frequency)] * frequency
            if frequency == 0:
                tail.append(index)
    for symbol in struct.unpack_from("<%dH" % far, data, at):
        need(symbol % 64 in symbols, "narrow: far symbol")
        symbols[symbol % 64] = symbol
    need(base < 1 << s and all(symbol < 1 << s for symbol in symbols.values()), "narrow: symbols")
    need(len(entries) == 256 and bool(escape) == bool(tail), "narrow: frequencies")
    slots, seen = [], {}
    for p in range(256):
        index, frequency = entries[159 * p % 256 if spread else p]
        slots.append((index, frequency, seen.get(index, 0)))
        seen[index] = seen.get(index, 0) + 1
    return slots, symbols, tail, at + 2 * far


def narrow(data, slots, escapes, lanes, count):
    """The indices of the rows that hold `count`, and the lanes' last states."""
    states = [data[l] | data[lanes + l] << 8 for l in range(lanes)]
    at, escapes = 2 * lanes, iter(escapes)
    out = bytearray()
    for _ in range(-(-count // lanes)):
        for l in range(lanes):
            index, frequency, offset = slots[states[l] & 255]
            out.append(next(escapes) if index is None else index)
            x = frequency * (states[l] >> 8) + offset
            if x < 256:
                x = x << 8 | data[at]
                at += 1
            states[l] = x
    need(at == len(data) and next(escapes, None) is None, "narrow: bytes left over")
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


def distribution(frequencies):
    """256 slots: symbol, frequency, offset; the last symbol has what the others leave."""
    need(frequencies[0] > 0 and sum(frequencies) < 256, "context: frequencies")
    frequencies = [*frequencies, 256 - sum(frequencies)]
    return [(symbol, frequency, k) for symbol, frequency in enumerate(frequencies) for k in range(frequency)]


def context_tables(data, at):
    """The first table's fields, contexts (lowest index, slots; the last symbol is the escape), indices (slots), the end."""
    origin, average, contexts, indices = struct.unpack_from("<BBQQ", data, at)
    need(average < 64, "context: average")
    at += 18
    by_context, by_index = {}, {}
    for c in range(64):
        by_context[c] = 0, 1, distribution([128])
        if contexts >> c & 1:
            low, n = data[at], data[at + 1]
            frequencies = data[at + 2 : at + 2 + n]
            need(1 <= n <= 11 and low + n <= 64 and frequencies[-1] > 0, "context: table")
            by_context[c] = low, n, distribution(frequencies)
            at += 2 + n
    for i in range(64):
        by_index[i] = distribution(data[at : at + 3] if indices >> i & 1 else [64, 64, 64])
        at += 3 * (indices >> i & 1)
    return origin, average, by_context, by_index, at


class Lanes:
    """The states of a stream of the context coder."""

    def __init__(self, data):
        self.states = [data[l] | data[256 + l] << 8 | data[512 + l] << 16 for l in range(256)]
        self.data, self.at = data, 768

    def decode(self, lane, slots):
        x = self.states[lane]
        symbol, frequency, offset = slots[x & 255]
        x = frequency * (x >> 8) + offset
        if x < 65536:
            x = x << 8 | self.data[self.at]
            self.at += 1
        self.states[lane] = x
        return symbol

    def end(self):
        need(self.at == len(self.data) and all(x >> 16 == 1 for x in self.states), "context: stream's end")
        return b"".join(struct.pack("<H", x & 65535) for x in self.states)


def contexts(data, at, stop, escapes, form, groups, base, exponent_bits, element):
    """The symbols, in the order of positions, and the 1024 bytes that the last states hold."""
    need(groups >= 256 and exponent_bits >= 1, "context: size")
    first = struct.unpack_from("<H", data, at)[0]
    need(first < 1 << exponent_bits, "context: exponent")
    origin, average, by_context, by_index, at = context_tables(data, at + 2)
    escaped = b""
    if escapes:
        escaped, at = plane(data, at, escapes, form)
        need(max(escaped) < 64, "context: escapes")
    size = struct.unpack_from("<I", data, at)[0]
    at += 4
    need(at + size <= stop, "context: size")
    one, two = Lanes(data[at : at + size]), Lanes(data[at + size : stop])

    indices, averages, next_escape = bytearray(64 * groups), [1024 * average] * 256, iter(escaped)
    begins = [groups * l // 256 for l in range(257)]
    position = {element_at(p, element): p for p in range(64)}
    for step in range(64 * -(-groups // 256)):
        for l in range(256):
            group = begins[l] + step // 64
            if group >= begins[l + 1]:
                continue
            a = averages[l]
            low, n, slots = by_context[min(max(a // 512 - origin, 0), 63)]
            symbol = one.decode(l, slots)
            index = next(next_escape) if symbol == n else low + symbol
            averages[l] = a - a // 16 + 64 * index
            indices[64 * group + position[step % 64]] = index
    need(next(next_escape, None) is None, "context: escapes left over")

    symbols = []
    for p, index in enumerate(indices):
        exponent = (base + index) % (1 << exponent_bits) if index else first
        symbols.append(exponent << 2 | two.decode(p % 256, by_index[index]))
    return symbols, one.end() + two.end()


def element_at(position, element):
    """The element of a group that stands at a position of it."""
    run, (j, i) = 16 // element, divmod(position, 16)
    return 64 // element * (i // run) + run * j + i % run


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
    coder, lanes_log, s, drop, base, forms, patch_size, escapes = struct.unpack_from("<BBBBHHII", data)
    need(coder < 3 and 1 <= s <= 15, "float: header")
    need([6 <= lanes_log <= 8 and base == 0, lanes_log == 0 and escapes == 0, lanes_log < 4][coder], "float: header")
    count, tail = divmod(size, element)
    groups = -(-count // 64)
    width = 8 * element - drop
    mantissa = width - 1 - s
    need(mantissa >= 0, "float: header")
    byte_planes, top_bits = mantissa // 8, mantissa % 8 + 1
    at, stop = 16, len(data) - tail
    if coder == 0:
        slots, known, tail_indices, at = narrow_table(data, at, s)

    sizes = {p: 64 * groups for p in range(byte_planes)} | {7: 8 * top_bits * groups}
    raw = [p for p in sizes if forms >> 2 * p & 3 == 0]
    lanes = 1 << lanes_log
    held = min([15 * lanes // 8, 0, 1024][coder], sizes[raw[-1]]) if raw else 0
    planes = {}
    for p, plane_size in sizes.items():
        planes[p], at = plane(data, at, plane_size - (held if raw and p == raw[-1] else 0), forms >> 2 * p & 3)
    need(all(p in sizes or forms >> 2 * p & 3 == 0 for p in range(8)), "float: forms")
    patches = data[at : at + patch_size]
    at += patch_size
    if coder == 0:
        bits = max(len(tail_indices) - 1, 0).bit_length()
        packed = -(-escapes * bits // 8)
        places = unpack(data[at : at + packed], bits, escapes)
        need(not places or max(places) < len(tail_indices), "narrow: escapes")
        at += packed
        indices, states = narrow(data[at:stop], slots, [tail_indices[i] for i in places], lanes, 64 * groups)
        symbols = [known[index] for index in indices]
        bits = sum((x & 0x7FFF) << 15 * l for l, x in enumerate(states)).to_bytes(15 * lanes // 8, "little")
        need(all(x >> 15 for x in states), "narrow: last states")
    elif coder == 2:
        symbols, bits = contexts(data, at, stop, escapes, lanes_log, groups, base, s - 2, element)
    else:
        bits = b""
        symbols = [(byte + base) % (1 << s) for byte in wide(data[at:stop], 64 * groups)]
    need(not any(bits[held:]), "last states")
    if raw:
        planes[raw[-1]] = bytes(planes[raw[-1]]) + bits[:held]
    top = unpack(planes.pop(7), top_bits, 64 * groups)

    position = 0
    need(len(patches) % 4 == 0, "patches")
    for distance, symbol in struct.iter_unpack("<HH", patches):
        position += distance
        if symbol != 65535:
            symbols[position] = symbol & (1 << s) - 1
        position += 1

    out = bytearray(64 * groups * element)
    for position in range(64 * groups):
        v = sum(values[position] << 8 * p for p, values in planes.items())
        v |= (top[position] & (1 << top_bits - 1) - 1) << 8 * byte_planes
        v |= symbols[position] << mantissa | top[position] >> top_bits - 1 << width - 1
        index = position // 64 * 64 + element_at(position % 64, element)
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
    """The content of the frames in `data`, the methods and the coders of floats seen. xxh3: bytes to the 64-bit hash, to check checksums."""
    out, methods, coders, at = bytearray(), set(), set(), 0
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
            if method == 3:
                coders.add(payload[0])
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
    return bytes(out), methods, coders
