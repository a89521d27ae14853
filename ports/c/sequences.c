#include "sequences.h"

#include <string.h>

#include "integers.h"

static void copy(int64_t *to, const int64_t *from, int64_t count)
{
    if (count > 0)
        memcpy(to, from, (size_t)count * sizeof *to);
}

/* SEQ-004, SEQ-012: the input operand of a layer in a step. `scratch` is [B, H]. */
static const int64_t *layer_input(const struct sequence *sequence, int64_t step, int64_t layer,
                                  int64_t *scratch)
{
    const struct config *config = sequence->config;
    const int64_t size = sequence->rows * config->hidden_size;
    const int64_t *below;
    if (layer == 0)
        return sequence->x + step * sequence->rows * config->input_size;
    below = sequence->h + (layer - 1) * size;
    for (int64_t i = 0; i < size; i++)
        scratch[i] = view_of(below[i], config->formats.state_bits, view_bits(config));
    if (sequence->gains != NULL) {
        const int64_t *gains =
            sequence->gains + (step * (config->num_layers - 1) + layer - 1) * size;
        for (int64_t i = 0; i < size; i++)
            scratch[i] = clip(rounding_shift(scratch[i] * gains[i], 12), -OPERAND_MAX,
                              OPERAND_MAX);
    }
    return scratch;
}

/* SEQ-007: the sliced units of the top layer as they are now. */
static void keep_slices(const struct sequence *sequence, int64_t entry)
{
    const struct config *config = sequence->config;
    const int64_t rows = sequence->rows;
    const int64_t *top = sequence->h + (config->num_layers - 1) * rows * config->hidden_size;
    for (int64_t row = 0; row < rows; row++)
        copy(sequence->slices + (entry * rows + row) * config->slice_size,
             top + row * config->hidden_size, config->slice_size);
}

/* EVAL-009 */
static void keep_trace(const struct sequence *sequence, int64_t step)
{
    const struct config *config = sequence->config;
    const int64_t size = config->num_layers * sequence->rows * config->hidden_size;
    if (sequence->h_steps != NULL)
        copy(sequence->h_steps + step * size, sequence->h, size);
    if (sequence->c_steps != NULL)
        copy(sequence->c_steps + step * size, sequence->c, size);
    if (sequence->heads_steps != NULL) {
        const int64_t heads = sequence->buffer->rows * sequence->buffer->units;
        copy(sequence->heads_steps + step * heads, sequence->buffer->heads, heads);
    }
    if (sequence->words_steps != NULL)
        sequence->words_steps[step] = stored_words(sequence->buffer);
}

/* SEQ-001 within a step, or CELL-040 on the way back. */
static enum error_code run_step(struct sequence *sequence, struct work *work, int64_t step,
                                bool back, int64_t *scratch)
{
    const struct config *config = sequence->config;
    const int64_t rows = sequence->rows;
    const int64_t size = rows * config->hidden_size;
    const int64_t top = config->num_layers - 1;
    const int64_t *mask = sequence->mask == NULL ? NULL : sequence->mask + step * rows;
    const int64_t *restore = sequence->slices == NULL
                                 ? NULL
                                 : sequence->slices + step * rows * config->slice_size;
    for (int64_t i = 0; i <= top; i++) {
        const int64_t k = back ? top - i : i;
        const struct layer *layer = sequence->layers + k;
        const int64_t *x = layer_input(sequence, step, k, scratch);
        int64_t *h = sequence->h + k * size;
        int64_t *c = sequence->c == NULL ? NULL : sequence->c + k * size;
        for (int j = 1; j <= 2; j++) {
            const int group = back ? 3 - j : j;
            const int64_t slice = k == top && group == 1 ? config->slice_size : 0;
            const enum error_code code =
                back ? cell_group_reverse(work, layer, group, x, mask, slice, restore, h, c)
                     : cell_group(work, layer, group, x, mask, slice, h, c);
            if (code != NO_ERROR)
                return code;
        }
    }
    return NO_ERROR;
}

static enum error_code start(const struct sequence *sequence, struct work *work,
                             int64_t **scratch)
{
    const int64_t shape[] = {sequence->rows, sequence->config->hidden_size};
    *scratch = arena_alloc(sequence->arena, checked_product(shape, 2), sizeof **scratch);
    if (*scratch == NULL)
        return NO_MEMORY;
    return start_work(work, sequence->arena, sequence->config, sequence->rows, sequence->buffer);
}

enum error_code run_sequence(struct sequence *sequence)
{
    const struct config *config = sequence->config;
    const int64_t size = sequence->rows * config->hidden_size;
    struct work work;
    int64_t *scratch;
    enum error_code code = start(sequence, &work, &scratch);
    if (code == NO_ERROR && sequence->slices != NULL)
        keep_slices(sequence, 0);
    for (int64_t step = 0; code == NO_ERROR && step < sequence->steps; step++) {
        code = run_step(sequence, &work, step, false, scratch);
        /* SEQ-005 */
        if (sequence->outputs != NULL)
            copy(sequence->outputs + step * size, sequence->h + (config->num_layers - 1) * size,
                 size);
        if (sequence->slices != NULL)
            keep_slices(sequence, step + 1);
        keep_trace(sequence, step);
    }
    sequence->wraps = work.wraps;
    return code;
}

enum error_code reverse_sequence(struct sequence *sequence)
{
    struct work work;
    int64_t *scratch;
    enum error_code code = start(sequence, &work, &scratch);
    for (int64_t step = sequence->steps - 1; code == NO_ERROR && step >= 0; step--) {
        code = run_step(sequence, &work, step, true, scratch);
        keep_trace(sequence, step);
    }
    return code;
}
