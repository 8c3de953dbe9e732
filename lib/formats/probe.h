/*
 * Finding the dtype of bytes that nothing describes.
 *
 * A float's exponent, read at the right phase, has far fewer values than noise;
 * each dtype at each phase is given an estimate of its coded size from
 * histograms of a look at the bytes, and the smallest wins. From there on samples are
 * compared with what the look has shown, and where they differ a new look is
 * taken; the place of the change is where the cost of coding what is before
 * with the old statistics and what is behind with the new is least.
 */
#ifndef ZNN_PROBE_H
#define ZNN_PROBE_H

#include "base/base.h"

#define ZNN_PROBE_FIELDS 9

/* What each value of each field of an element costs, in 1/256 bits. */
typedef struct {
    znn_dtype dtype;
    unsigned raw;      /* cost of what is noise in an element */
    unsigned expected; /* cost of an element */
    unsigned spread;   /* of byte values, where it is no float */
    unsigned fields;
    uint8_t shift[ZNN_PROBE_FIELDS];
    uint16_t cost[ZNN_PROBE_FIELDS][256];
} znn_probe_model;

typedef struct {
    znn_probe_model model; /* of the region at hand */
    znn_probe_model next;  /* of the region from `boundary` on */
    bool begun;            /* model is valid */
    bool bounded;          /* boundary and next are valid */
    bool starts_segment;   /* the piece at hand is the first of its segment */
    bool next_starts_segment;
    unsigned samples; /* taken in this region */
    uint64_t regret;  /* what another dtype would have saved, by the looks taken */
    size_t good;      /* bytes from the current position known to be of the region at hand */
    size_t boundary;  /* bytes from the current position to its end */
    size_t gap;       /* bytes between that and `next` which are no numbers */
} znn_probe;

void znn_probe_begin(znn_probe *probe);

/* Looks at src[0, size), the bytes from the current position on, for the end of
 * the region that begins there. Returns the region's size, or `size` if it does not
 * end there. ends: the stream ends with src. */
size_t znn_probe_region(znn_probe *probe, const uint8_t *src, size_t size, bool ends);

/* Dtype of the region at hand, after znn_probe_region. */
znn_dtype znn_probe_dtype(const znn_probe *probe);

/* Advance by n bytes, at most what znn_probe_region returned. */
void znn_probe_advance(znn_probe *probe, size_t n);

#endif
