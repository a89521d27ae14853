#include "accounting.h"

#include <math.h>

/* ACC-002. No gate is 0. */
double ideal_bits(const int64_t *gate_counts)
{
    double bits = 0.0;
    for (int v = 1; v < GATE_VALUES; v++)
        if (gate_counts[v] != 0)
            bits += (double)gate_counts[v] * log2(1024.0 / v);
    return bits;
}

/* The number of (step, row) that are not masked out. */
static int64_t present(const struct sequence *sequence)
{
    int64_t count = 0;
    for (int64_t i = 0; i < sequence->steps * sequence->rows; i++)
        count += sequence->mask == NULL || sequence->mask[i] != 0;
    return count;
}

/* ACC-003 */
int64_t stored_bits(const struct sequence *sequence)
{
    const struct buffer *buffer = sequence->buffer;
    int64_t heads, bits;
    if (buffer == NULL)
        return 0;
    heads = buffer->rows * buffer->units;
    if (buffer->layout == LAYOUT_STREAM)
        bits = 16 * buffer->words.length + 32 * heads;
    else
        bits = 64 * buffer->words.length + 64 * heads + buffer->flags.length;
    return bits + 32 * sequence->config->slice_size * (sequence->rows + present(sequence));
}

/* ACC-004 */
int64_t plain_bits(const struct sequence *sequence)
{
    const struct config *config = sequence->config;
    const int64_t states = config->cell == REVGRU ? 1 : 2;
    return 32 * config->num_layers * config->hidden_size * states * present(sequence);
}
