/* EVAL-002, CONF-004: the results of a call. */
#ifndef REVRNN_RESULTS_H
#define REVRNN_RESULTS_H

#include "values.h"
#include "writer.h"

/* The results of a call, in the order in which they were added. */
struct result {
    const char *name;
    struct value value;
    struct result *next;
};

struct results {
    struct arena *arena;
    struct result *first;
    struct result **last;
};

void start_results(struct results *results, struct arena *arena);

/* All give false where there is no memory. The elements are not copied. */
bool add_array(struct results *results, const char *name, enum dtype dtype, size_t axes,
               const int64_t *shape, int64_t *integers);
bool add_floats(struct results *results, const char *name, enum dtype dtype, size_t axes,
                const int64_t *shape, double *floats);
bool add_integer(struct results *results, const char *name, int64_t integer);
bool add_number(struct results *results, const char *name, double number);

void write_results(struct writer *writer, const struct results *results);

#endif
