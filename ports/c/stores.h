/* EVAL-006: a buffer in requests and results: its heads, words and flags. */
#ifndef REVRNN_STORES_H
#define REVRNN_STORES_H

#include "arguments.h"
#include "buffer.h"

/* The ranges of heads and the store's arrays, for the layouts of this port. */
void want_store(struct wanted *wanted, enum layout layout, int64_t units);

/* The results heads, words and flags. */
bool add_store(struct results *results, const struct buffer *buffer);

#endif
