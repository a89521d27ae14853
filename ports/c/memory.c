#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* A request that needs more than this is refused before the machine runs out of memory. */
#define ARENA_LIMIT ((size_t)1 << 31)
/* With 1, each piece is a block of its own without slack: what is read beyond it is seen. */
#ifndef BLOCK_SIZE
#define BLOCK_SIZE ((size_t)1 << 16)
#endif

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t size;
    max_align_t data[];
};

void *arena_alloc(struct arena *arena, int64_t count, size_t size)
{
    const size_t step = BLOCK_SIZE > 1 ? sizeof(max_align_t) : 1;
    struct arena_block *block = arena->blocks;
    size_t need;
    void *piece;
    if (count < 0 || size == 0 || (uint64_t)count > ARENA_LIMIT / size)
        return NULL;
    need = (size_t)count * size;
    need = need == 0 ? step : (need + step - 1) / step * step;
    if (block == NULL || block->size - block->used < need) {
        const size_t room = need > BLOCK_SIZE ? need : BLOCK_SIZE;
        if (room > ARENA_LIMIT - arena->total)
            return NULL;
        block = malloc(sizeof *block + room);
        if (block == NULL)
            return NULL;
        arena->total += room;
        block->next = arena->blocks;
        block->used = 0;
        block->size = room;
        arena->blocks = block;
    }
    piece = (unsigned char *)block->data + block->used;
    block->used += need;
    memset(piece, 0, need);
    return piece;
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->total = 0;
}

int64_t checked_product(const int64_t *lengths, size_t n)
{
    int64_t product = 1;
    for (size_t i = 0; i < n; i++)
        if (lengths[i] == 0)
            return 0;
    for (size_t i = 0; i < n; i++) {
        if (product > INT64_MAX / lengths[i])
            return -1;
        product *= lengths[i];
    }
    return product;
}
