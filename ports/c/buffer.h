/* BUF: the information buffer, layouts stream and wordlist. */
#ifndef REVRNN_BUFFER_H
#define REVRNN_BUFFER_H

#include <stdbool.h>
#include <stdint.h>

#include "errors.h"
#include "memory.h"

enum layout { LAYOUT_STREAM, LAYOUT_WORDLIST, LAYOUT_BIGINT };

/* A list of numbers that grows at its end. */
struct stack {
    int64_t *items;
    int64_t length;
    int64_t room;
};

struct buffer {
    struct arena *arena;
    enum layout layout;
    int64_t rows;
    int64_t units;              /* of one row */
    int64_t *heads;             /* [rows, units] */
    struct stack words;         /* of stream the words, of wordlist the planes */
    struct stack flags;
    int64_t *gate_counts;       /* ACC-001, or NULL where nobody counts */
    bool *active;               /* [rows, units], of the present operation */
    int64_t *digits;            /* [rows, units]: low before a push, residue after; or back */
};

/* Heads are taken as they are, and changed. Gives NO_MEMORY where there is none. */
enum error_code start_buffer(struct buffer *buffer, struct arena *arena, enum layout layout,
                             int64_t rows, int64_t units, int64_t *heads);

/* Puts items on an empty stack, which keeps them. */
void fill_stack(struct stack *stack, int64_t *items, int64_t length);

/* One operation on all units: buffer->active says which, buffer->digits has their digits, z their
   gates. */
enum error_code buffer_push(struct buffer *buffer, const int64_t *z);
enum error_code buffer_pop(struct buffer *buffer, const int64_t *z);

/* EVAL-006, EVAL-009: words, or planes, that are stored. */
int64_t stored_words(const struct buffer *buffer);

#endif
