#include "stores.h"

#include "integers.h"

/* EVAL-006, BUF-020, BUF-030: heads, words and flags. */
void want_store(struct wanted *wanted, enum layout layout, int64_t units)
{
    const bool stream = layout == LAYOUT_STREAM;
    const struct wanted heads = {
        "heads", I64, 2, {DIM_B, units}, stream ? HEAD_START : 0, stream ? INT32_MAX : INT64_MAX,
        NULL
    };
    const struct wanted stream_words = {"words", U16, 1, {DIM_W}, 0, 0, NULL};
    const struct wanted planes = {"words", I64, 3, {DIM_P, DIM_B, units}, 0, INT64_MAX, NULL};
    const struct wanted no_flags = {"flags", U8, 1, {0}, 0, 0, NULL};
    const struct wanted flags = {"flags", U8, 1, {DIM_F}, 0, 1, NULL};
    wanted[0] = heads;
    wanted[1] = stream ? stream_words : planes;
    wanted[2] = stream ? no_flags : flags;
}

bool add_store(struct results *results, const struct buffer *buffer)
{
    const bool stream = buffer->layout == LAYOUT_STREAM;
    const int64_t planes[] = {stored_words(buffer), buffer->rows, buffer->units};
    return add_array(results, "heads", I64, 2, planes + 1, buffer->heads)
           && add_array(results, "words", stream ? U16 : I64, stream ? 1 : 3, planes,
                        buffer->words.items)
           && add_array(results, "flags", U8, 1, &buffer->flags.length, buffer->flags.items);
}
