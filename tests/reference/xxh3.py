"""XXH3, 64 bits, seed 0, from xxHash's doc/xxhash_spec.md: slow, and independent of the library."""

import struct

M32, M64 = 2**32 - 1, 2**64 - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
PMX_1, PMX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
STRIPE, STRIPES_A_BLOCK = 64, (len(SECRET) - 64) // 8


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def fold(a, b):
    """The halves of the product of 128 bits, by exclusive or."""
    product = a * b
    return (product & M64) ^ (product >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * PMX_1 & M64
    return h ^ h >> 32


def avalanche_xxh64(h):
    h ^= h >> 33
    h = h * P64_2 & M64
    h ^= h >> 29
    h = h * P64_3 & M64
    return h ^ h >> 32


def mix16(data, at, secret_at):
    return fold(u64(data, at) ^ u64(SECRET, secret_at), u64(data, at + 8) ^ u64(SECRET, secret_at + 8))


def up_to_16(data, n):
    if n == 0:
        return avalanche_xxh64(u64(SECRET, 56) ^ u64(SECRET, 64))
    if n <= 3:
        combined = data[n - 1] | n << 8 | data[0] << 16 | data[n >> 1] << 24
        return avalanche_xxh64(u32(SECRET, 0) ^ u32(SECRET, 4) ^ combined)
    if n <= 8:
        value = (u64(SECRET, 8) ^ u64(SECRET, 16)) ^ (u32(data, n - 4) | u32(data, 0) << 32)
        rotated = lambda bits: (value << bits | value >> 64 - bits) & M64  # noqa: E731
        value ^= rotated(49) ^ rotated(24)
        value = value * PMX_2 & M64
        value ^= (value >> 35) + n
        value = value * PMX_2 & M64
        return value ^ value >> 28
    low = u64(SECRET, 24) ^ u64(SECRET, 32) ^ u64(data, 0)
    high = u64(SECRET, 40) ^ u64(SECRET, 48) ^ u64(data, n - 8)
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return avalanche((n + swapped + high + fold(low, high)) & M64)


def up_to_240(data, n):
    acc = n * P64_1
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            acc += mix16(data, 16 * i, 32 * i) + mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return avalanche(acc & M64)
    for i in range(8):
        acc += mix16(data, 16 * i, 16 * i)
    acc = avalanche(acc & M64)
    for i in range(8, n // 16):
        acc += mix16(data, 16 * i, 16 * (i - 8) + 3)
    return avalanche((acc + mix16(data, n - 16, 136 - 17)) & M64)


def accumulate(acc, data, at, secret_at):
    values, secret = struct.unpack_from("<8Q", data, at), struct.unpack_from("<8Q", SECRET, secret_at)
    for i in range(8):
        keyed = values[i] ^ secret[i]
        acc[i ^ 1] = acc[i ^ 1] + values[i] & M64
        acc[i] = acc[i] + (keyed & M32) * (keyed >> 32) & M64


def long(data, n):
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    last = struct.unpack_from("<8Q", SECRET, len(SECRET) - 64)
    stripes = (n - 1) // STRIPE
    for stripe in range(stripes):
        accumulate(acc, data, STRIPE * stripe, 8 * (stripe % STRIPES_A_BLOCK))
        if stripe % STRIPES_A_BLOCK == STRIPES_A_BLOCK - 1:
            acc = [(a ^ a >> 47 ^ k) * P32_1 & M64 for a, k in zip(acc, last)]
    accumulate(acc, data, n - STRIPE, len(SECRET) - 64 - 7)
    merged = n * P64_1
    for i in range(4):
        merged += fold(acc[2 * i] ^ u64(SECRET, 11 + 16 * i), acc[2 * i + 1] ^ u64(SECRET, 19 + 16 * i))
    return avalanche(merged & M64)


def xxh3_64(data):
    n = len(data)
    return up_to_16(data, n) if n <= 16 else up_to_240(data, n) if n <= 240 else long(data, n)
