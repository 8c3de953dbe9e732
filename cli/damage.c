#include "damage.h"

#include "message.h"

const char *damage_text(znn_status status)
{
    switch (status) {
    case ZNN_ERROR_FORMAT: return "damaged: its structure is broken";
    case ZNN_ERROR_CHECKSUM: return "damaged: what it holds does not match its checksum";
    case ZNN_ERROR_TRUNCATED: return "truncated: the file ends too early";
    case ZNN_ERROR_UNSUPPORTED: return "written by a newer version of znn, or damaged";
    default: return message_of(status);
    }
}

const char *damage_reason(znn_status status, const znn_reason *reason)
{
    return reason->text[0] && status != ZNN_ERROR_LIMIT ? reason->text : damage_text(status);
}

void damage_report(const char *name, znn_status status, const znn_decoder *decoder, uint64_t frame_end)
{
    uint64_t at, content_at;
    znn_decoder_position(decoder, &at, &content_at);
    const bool follows = status == ZNN_ERROR_FORMAT && frame_end && at == frame_end;
    message_error(name, "%s (at byte %llu of the file, byte %llu of the content)",
                  follows ? "damaged: the compressed data end, and something else follows" : damage_text(status),
                  (unsigned long long)at, (unsigned long long)content_at);
}
