#include "cells.h"

#include <string.h>

#include "activations.h"
#include "integers.h"
#include "product.h"
#include "revmul.h"

enum error_code start_work(struct work *work, struct arena *arena, const struct config *config,
                           int64_t rows, struct buffer *buffer)
{
    const int64_t shape[] = {rows, config->hidden_size / 2};
    const int64_t count = checked_product(shape, 2);
    memset(work, 0, sizeof *work);
    work->config = config;
    work->rows = rows;
    work->units = shape[1];
    work->buffer = buffer;
    work->view = arena_alloc(arena, count, sizeof(int64_t));
    work->update = arena_alloc(arena, count, sizeof(int64_t));
    work->own = arena_alloc(arena, count, sizeof(int64_t));
    if (work->view == NULL || work->update == NULL || work->own == NULL)
        return NO_MEMORY;
    for (int64_t q = 0; q < gate_count(config); q++) {
        work->gates[q] = arena_alloc(arena, count, sizeof(int64_t));
        if (work->gates[q] == NULL)
            return NO_MEMORY;
        /* Rows that are masked out are not computed; their gates must still be gates. */
        for (int64_t i = 0; i < count; i++)
            work->gates[q][i] = 1024;
    }
    return NO_ERROR;
}

enum function { FORGET, SIGMOID, TANH };

/* PROD-004, CELL-003 and the gate's function. `v` stands for the view, or for what takes its
   place (CELL-011). */
static void compute_gate(struct work *work, const struct layer *layer, int group, int gate,
                         enum function function, const int64_t *x, const int64_t *v,
                         const int64_t *mask)
{
    const struct config *config = work->config;
    const int bits = sum_bits(&config->formats);
    const int64_t units = work->units;
    const int64_t first = ((group - 1) * gate_count(config) + gate) * units;
    const int64_t x_scale = (int64_t)1 << (config->formats.operand_bits - layer->input_bits);
    const bool is_p = config->cell == REVLSTM && gate == 4;  /* CELL-020 */
    const int64_t cap = is_p ? config->p_max : config->z_max;
    const int64_t v_scale = (int64_t)1 << (config->formats.operand_bits - view_bits(config));
    for (int64_t row = 0; row < work->rows; row++) {
        if (mask != NULL && mask[row] == 0)
            continue;
        for (int64_t unit = 0; unit < units; unit++) {
            const int64_t *w_ih = layer->weight_ih + (first + unit) * layer->inputs;
            const int64_t *w_hh = layer->weight_hh + (first + unit) * units;
            const int64_t s = x_scale * dot_product(x + row * layer->inputs, w_ih, layer->inputs)
                              + v_scale * dot_product(v + row * units, w_hh, units)
                              + layer->bias[first + unit];
            int64_t *result = &work->gates[gate][row * units + unit];
            if (function == FORGET)
                *result = forget_gate(s, bits, config->max_forget_bits, cap);
            else
                *result = function == SIGMOID ? fixed_sigmoid(s, bits) : fixed_tanh(s, bits);
        }
    }
}

/* CELL-004, FMT-004: the view of the group that is not being updated. */
static void view_other(struct work *work, int group, const int64_t *h)
{
    const struct config *config = work->config;
    const int64_t offset = group == 1 ? work->units : 0;
    for (int64_t row = 0; row < work->rows; row++)
        for (int64_t unit = 0; unit < work->units; unit++)
            work->view[row * work->units + unit] =
                view_of(h[row * config->hidden_size + offset + unit], config->formats.state_bits,
                        view_bits(config));
}

/* CELL-010, CELL-011: gates z, r, g. */
static void revgru_gates(struct work *work, const struct layer *layer, int group,
                         const int64_t *x, const int64_t *mask)
{
    const int64_t count = work->rows * work->units;
    compute_gate(work, layer, group, 0, FORGET, x, work->view, mask);
    compute_gate(work, layer, group, 1, SIGMOID, x, work->view, mask);
    for (int64_t i = 0; i < count; i++)
        work->view[i] = rounding_shift(work->gates[1][i] * work->view[i], 15);
    compute_gate(work, layer, group, 2, TANH, x, work->view, mask);
}

/* CELL-020, CELL-031: gates f, i, g, o, p, or i, g, o. */
static void revlstm_gates(struct work *work, const struct layer *layer, int group,
                          const int64_t *x, const int64_t *mask)
{
    static const enum function functions[] = {FORGET, SIGMOID, TANH, SIGMOID, FORGET};
    const int skipped = work->config->forgetting ? 0 : 1;
    for (int gate = 0; gate < gate_count(work->config); gate++)
        compute_gate(work, layer, group, gate, functions[gate + skipped], x, work->view, mask);
}

static void compute_gates(struct work *work, const struct layer *layer, int group,
                          const int64_t *x, const int64_t *mask, const int64_t *h)
{
    view_other(work, group, h);
    if (work->config->cell == REVGRU)
        revgru_gates(work, layer, group, x, mask);
    else
        revlstm_gates(work, layer, group, x, mask);
}

/* The present values of a group in h or c, and back. */
static void load_own(struct work *work, int group, const int64_t *state)
{
    const int64_t *from = state + (group - 1) * work->units;
    for (int64_t row = 0; row < work->rows; row++)
        memcpy(work->own + row * work->units, from + row * 2 * work->units,
               (size_t)work->units * sizeof *from);
}

static void store_own(struct work *work, int group, int64_t *state)
{
    int64_t *to = state + (group - 1) * work->units;
    for (int64_t row = 0; row < work->rows; row++)
        memcpy(to + row * 2 * work->units, work->own + row * work->units,
               (size_t)work->units * sizeof *to);
}

/* CELL-012 */
static void revgru_update(struct work *work)
{
    const int shift = 25 - work->config->formats.state_bits;
    for (int64_t i = 0; i < work->rows * work->units; i++)
        work->update[i] = rounding_shift((1024 - work->gates[0][i]) * work->gates[2][i], shift);
}

/* CELL-021 */
static void revlstm_c_update(struct work *work)
{
    const int shift = 30 - work->config->formats.state_bits;
    const int64_t *i_gate = work->gates[work->config->forgetting ? 1 : 0];
    const int64_t *g_gate = work->gates[work->config->forgetting ? 2 : 1];
    for (int64_t i = 0; i < work->rows * work->units; i++)
        work->update[i] = rounding_shift(i_gate[i] * g_gate[i], shift);
}

/* CELL-022, from the cell state after its update. */
static void revlstm_h_update(struct work *work, int group, const int64_t *c)
{
    const int bits = work->config->formats.state_bits;
    const int64_t *o_gate = work->gates[work->config->forgetting ? 3 : 2];
    for (int64_t i = 0; i < work->rows * work->units; i++) {
        const int64_t row = i / work->units;
        const int64_t unit = i % work->units;
        const int64_t own = c[(row * 2 + group - 1) * work->units + unit];
        work->update[i] = rounding_shift(o_gate[i] * fixed_tanh(own, bits), 30 - bits);
    }
}

/* MUL-006: state = wrap32(revmul(state, z) + update), with the wraps counted. */
static enum error_code apply(struct work *work, int group, const int64_t *z, const int64_t *mask,
                             int64_t slice, int64_t *state)
{
    load_own(work, group, state);
    if (work->buffer != NULL) {
        const enum error_code code = revmul(work->buffer, mask, slice, work->own, z);
        if (code != NO_ERROR)
            return code;
    }
    for (int64_t i = 0; i < work->rows * work->units; i++) {
        const int64_t sum = work->own[i] + work->update[i];
        if (mask != NULL && mask[i / work->units] == 0)
            continue;
        if (!fits32(sum))
            work->wraps++;
        work->own[i] = wrap32(sum);
    }
    store_own(work, group, state);
    return NO_ERROR;
}

/* CELL-040, MUL-006 */
static enum error_code undo(struct work *work, int group, const int64_t *z, const int64_t *mask,
                            int64_t slice, const int64_t *restore, int64_t *state)
{
    load_own(work, group, state);
    for (int64_t i = 0; i < work->rows * work->units; i++)
        if (mask == NULL || mask[i / work->units] != 0)
            work->own[i] = wrap32(work->own[i] - work->update[i]);
    if (work->buffer != NULL) {
        const enum error_code code =
            revmul_inverse(work->buffer, mask, slice, restore, work->own, z);
        if (code != NO_ERROR)
            return code;
    }
    store_own(work, group, state);
    return NO_ERROR;
}

/* CELL-012, CELL-021, CELL-022, CELL-030, CELL-031 */
enum error_code cell_group(struct work *work, const struct layer *layer, int group,
                           const int64_t *x, const int64_t *mask, int64_t slice, int64_t *h,
                           int64_t *c)
{
    enum error_code code;
    compute_gates(work, layer, group, x, mask, h);
    if (work->config->cell == REVGRU) {
        revgru_update(work);
        return apply(work, group, work->gates[0], mask, slice, h);
    }
    revlstm_c_update(work);
    code = apply(work, group, work->gates[0], mask, 0, c);
    if (code != NO_ERROR)
        return code;
    revlstm_h_update(work, group, c);
    return apply(work, group, work->gates[4], mask, slice, h);
}

enum error_code cell_group_reverse(struct work *work, const struct layer *layer, int group,
                                   const int64_t *x, const int64_t *mask, int64_t slice,
                                   const int64_t *restore, int64_t *h, int64_t *c)
{
    enum error_code code;
    compute_gates(work, layer, group, x, mask, h);
    if (work->config->cell == REVGRU) {
        revgru_update(work);
        return undo(work, group, work->gates[0], mask, slice, restore, h);
    }
    revlstm_h_update(work, group, c);
    code = undo(work, group, work->gates[4], mask, slice, restore, h);
    if (code != NO_ERROR)
        return code;
    revlstm_c_update(work);
    return undo(work, group, work->gates[0], mask, 0, NULL, c);
}
