/* The memory of one request: many pieces, given back all at once. */
#ifndef REVRNN_MEMORY_H
#define REVRNN_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t total;
};

/* count pieces of a size, all bytes zero; NULL where there is not so much memory, where count is
   negative, or where the request would pass the limit. A count of 0 is allowed. */
void *arena_alloc(struct arena *arena, int64_t count, size_t size);

void arena_free(struct arena *arena);

/* The product of n lengths, none of them negative, or -1 where it passes 63 bits. */
int64_t checked_product(const int64_t *lengths, size_t n);

#endif
