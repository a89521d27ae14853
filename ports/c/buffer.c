#include "buffer.h"

#include <string.h>

#include "integers.h"

#define STREAM_SPILL 21                     /* BUF-031 */
#define WORDLIST_SPILL ((int64_t)1 << 53)   /* BUF-021 */

enum error_code start_buffer(struct buffer *buffer, struct arena *arena, enum layout layout,
                             int64_t rows, int64_t units, int64_t *heads)
{
    const int64_t shape[] = {rows, units};
    const int64_t count = checked_product(shape, 2);
    memset(buffer, 0, sizeof *buffer);
    buffer->arena = arena;
    buffer->layout = layout;
    buffer->rows = rows;
    buffer->units = units;
    buffer->heads = heads;
    buffer->active = arena_alloc(arena, count, sizeof *buffer->active);
    buffer->digits = arena_alloc(arena, count, sizeof *buffer->digits);
    return buffer->active == NULL || buffer->digits == NULL ? NO_MEMORY : NO_ERROR;
}

void fill_stack(struct stack *stack, int64_t *items, int64_t length)
{
    stack->items = items;
    stack->length = length;
    stack->room = length;
}

/* Room for more items. The old piece of memory stays with the request until its end. */
static enum error_code reserve(struct arena *arena, struct stack *stack, int64_t more)
{
    int64_t room = stack->room < 512 ? 1024 : stack->room * 2;
    int64_t *items;
    if (stack->room - stack->length >= more)
        return NO_ERROR;
    if (room < stack->length + more)
        room = stack->length + more;
    items = arena_alloc(arena, room, sizeof *items);
    if (items == NULL)
        return NO_MEMORY;
    if (stack->length > 0)
        memcpy(items, stack->items, (size_t)stack->length * sizeof *items);
    stack->items = items;
    stack->room = room;
    return NO_ERROR;
}

/* BUF-031 */
static enum error_code renormalise_stream(struct buffer *buffer, const int64_t *z)
{
    const int64_t count = buffer->rows * buffer->units;
    struct stack *words = &buffer->words;
    for (int64_t i = 0; i < count; i++) {
        if (!buffer->active[i] || buffer->heads[i] < z[i] << STREAM_SPILL)
            continue;
        if (reserve(buffer->arena, words, 1) != NO_ERROR)
            return NO_MEMORY;
        words->items[words->length++] = buffer->heads[i] & 0xFFFF;
        buffer->heads[i] >>= WORD_BITS;
    }
    return NO_ERROR;
}

/* BUF-021, BUF-022 */
static enum error_code renormalise_wordlist(struct buffer *buffer)
{
    const int64_t count = buffer->rows * buffer->units;
    struct stack *words = &buffer->words;
    struct stack *flags = &buffer->flags;
    int64_t flag = 0;
    for (int64_t i = 0; i < count; i++)
        if (buffer->active[i] && buffer->heads[i] >= WORDLIST_SPILL)
            flag = 1;
    if (reserve(buffer->arena, flags, 1) != NO_ERROR
        || (flag == 1 && reserve(buffer->arena, words, count) != NO_ERROR))
        return NO_MEMORY;
    flags->items[flags->length++] = flag;
    for (int64_t i = 0; flag == 1 && i < count; i++) {
        words->items[words->length++] = buffer->active[i] ? buffer->heads[i] : 0;
        if (buffer->active[i])
            buffer->heads[i] = 0;
    }
    return NO_ERROR;
}

/* BUF-005 */
enum error_code buffer_push(struct buffer *buffer, const int64_t *z)
{
    const int64_t count = buffer->rows * buffer->units;
    const enum error_code code = buffer->layout == LAYOUT_STREAM
                                     ? renormalise_stream(buffer, z)
                                     : renormalise_wordlist(buffer);
    if (code != NO_ERROR)
        return code;
    /* BUF-001. Heads are below 2^53 here in wordlist and below 2^31 in stream, so 63 bits have
       room. */
    for (int64_t i = 0; i < count; i++) {
        if (!buffer->active[i])
            continue;
        const int64_t n = buffer->heads[i] * 1024 + buffer->digits[i];
        buffer->digits[i] = n % z[i];
        buffer->heads[i] = n / z[i];
        if (buffer->gate_counts != NULL)
            buffer->gate_counts[z[i]]++;
    }
    return NO_ERROR;
}

/* BUF-032 */
static enum error_code undo_stream(struct buffer *buffer)
{
    for (int64_t i = buffer->rows * buffer->units - 1; i >= 0; i--) {
        if (!buffer->active[i] || buffer->heads[i] >= HEAD_START)
            continue;
        if (buffer->words.length == 0)
            return E_UNDERFLOW;
        buffer->words.length--;
        buffer->heads[i] = buffer->heads[i] * 65536 + buffer->words.items[buffer->words.length];
    }
    return NO_ERROR;
}

/* BUF-023 */
static enum error_code undo_wordlist(struct buffer *buffer)
{
    const int64_t count = buffer->rows * buffer->units;
    struct stack *words = &buffer->words;
    if (buffer->flags.length == 0)
        return E_UNDERFLOW;
    buffer->flags.length--;
    if (buffer->flags.items[buffer->flags.length] == 0)
        return NO_ERROR;
    if (words->length < count)
        return E_UNDERFLOW;
    words->length -= count;
    for (int64_t i = 0; i < count; i++)
        if (buffer->active[i])
            buffer->heads[i] = words->items[words->length + i];
    return NO_ERROR;
}

/* BUF-005 */
enum error_code buffer_pop(struct buffer *buffer, const int64_t *z)
{
    const int64_t count = buffer->rows * buffer->units;
    /* BUF-002 */
    for (int64_t i = 0; i < count; i++) {
        int64_t n;
        if (!buffer->active[i])
            continue;
        /* BUF-024. In stream n never comes near. */
        if (buffer->heads[i] > (INT64_MAX - buffer->digits[i]) / z[i])
            return E_RANGE;
        n = buffer->heads[i] * z[i] + buffer->digits[i];
        buffer->digits[i] = n % 1024;
        buffer->heads[i] = n / 1024;
    }
    return buffer->layout == LAYOUT_STREAM ? undo_stream(buffer) : undo_wordlist(buffer);
}

int64_t stored_words(const struct buffer *buffer)
{
    if (buffer->layout == LAYOUT_STREAM)
        return buffer->words.length;
    return buffer->words.length / (buffer->rows * buffer->units);
}
