#include "repair.h"

#include "frame/layout.h"

size_t fuzz_repair_frame(uint8_t *data, size_t size, size_t room)
{
    static uint8_t table[1 << 16];
    znn_header header;
    if (size < ZNN_HEADER_SIZE)
        return size;
    memcpy(data, "\x89ZNN\x01", 5);
    data[5] = (uint8_t)(16 + data[5] % 7);
    data[6] &= 7;
    data[7] = 0;
    memset(data + 16, 0, 8);
    uint32_t extensions = znn_load32(data + 24);
    if (extensions > size - ZNN_HEADER_SIZE)
        znn_store32(data + 24, extensions = 0);
    if (!(data[6] & 1))
        memset(data + 8, 0xff, 8);
    if (znn_header_read(&header, data) != ZNN_OK)
        return size;

    size_t at = ZNN_HEADER_SIZE + extensions, entries = 0;
    uint64_t content = 0;
    znn_hasher whole, end;
    znn_hasher_begin(&whole);
    while (size - at >= ZNN_BLOCK_HEADER_SIZE && entries < sizeof table) {
        znn_chunk chunk;
        bool starts;
        if (znn_block_read(&chunk, &starts, data + at, &header) != ZNN_OK ||
            chunk.stored_size > size - at - ZNN_BLOCK_HEADER_SIZE)
            break;
        znn_store32(table + entries, chunk.content_size);
        znn_store32(table + entries + 4, chunk.stored_size + ZNN_BLOCK_HEADER_SIZE);
        entries += ZNN_TABLE_ENTRY_SIZE;
        znn_hasher_update(&whole, data + at, ZNN_BLOCK_HEADER_SIZE);
        content += chunk.content_size;
        at += ZNN_BLOCK_HEADER_SIZE + chunk.stored_size;
    }
    if (at + ZNN_END_HEADER_SIZE + entries + ZNN_TRAILER_SIZE > room)
        return size;

    if (data[6] & 1)
        znn_store64(data + 8, content);
    znn_hasher_begin(&end);
    znn_hasher_update(&end, data, 28);
    znn_hasher_update(&end, data + ZNN_HEADER_SIZE, extensions);
    znn_store32(data + 28, (uint32_t)znn_hasher_end(&end));

    memset(data + at, 0, ZNN_END_HEADER_SIZE);
    data[at] = ZNN_BLOCK_END;
    memcpy(data + at + ZNN_END_HEADER_SIZE, table, entries);
    znn_hasher_begin(&end);
    znn_hasher_update(&end, data + at, ZNN_END_HEADER_SIZE + entries);
    at += ZNN_END_HEADER_SIZE + entries;
    znn_trailer trailer = {.chunks = entries / ZNN_TABLE_ENTRY_SIZE,
                           .content_size = content,
                           .checksum = header.checksums ? znn_hasher_end(&whole) : 0,
                           .frame_size = at + ZNN_TRAILER_SIZE};
    znn_trailer_write(data + at, &trailer, &end);
    return at + ZNN_TRAILER_SIZE;
}
