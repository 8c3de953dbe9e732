/* Estimates of what content costs when coded as a dtype, in 1/256 bits and in
 * integers, so that every machine decides alike. */
#ifndef ZNN_ESTIMATE_H
#define ZNN_ESTIMATE_H

#include "formats/probe.h"

#define ZNN_LOOK_MAX ((size_t)32768) /* bytes: counts have 16 bits */
#define ZNN_SAMPLE_MAX ((size_t)512)

/* Every dtype at every phase, by histograms over one stretch of bytes. */
typedef struct {
    znn_dtype dtype; /* the best */
    unsigned phase;
    size_t size; /* bytes looked at */
    uint64_t cost;
    uint64_t costs[ZNN_DTYPE_COUNT][8];
} znn_look;

void znn_look_at(znn_look *look, const uint8_t *src, size_t n);
uint64_t znn_look_cost(const znn_look *look, znn_dtype dtype, unsigned phase);

void znn_model_train(znn_probe_model *model, znn_dtype dtype, const uint8_t *src, size_t n);
void znn_model_flat(znn_probe_model *model, unsigned cost_of_byte);
/* Of the whole elements in src[0, n). */
uint64_t znn_model_cost(const znn_probe_model *model, const uint8_t *src, size_t n);
/* Whether a sample, of ZNN_SAMPLE_MAX bytes at src, looks like what the model was trained on. */
bool znn_model_fits(const znn_probe_model *model, const uint8_t *src);

#endif
