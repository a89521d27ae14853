/* EVAL: operations by name, with the checks of ERR-002 before each. */
#ifndef REVRNN_OPERATIONS_H
#define REVRNN_OPERATIONS_H

#include "arguments.h"
#include "buffer.h"

/* JSON_BAD where the arguments are no request of CONF-004, JSON_MEMORY where they are too large.
   Else the fault's code is NO_ERROR and there are results, or there are none. */
enum json_status evaluate(struct arena *arena, const struct json *operation,
                          const struct json *arguments, struct results *results,
                          struct fault *fault);

/* The operations on sequences and cells, which have a configuration. */
enum network_operation {
    CELL_FORWARD,
    CELL_REVERSE,
    SEQUENCE_FORWARD,
    SEQUENCE_REVERSE,
    SEQUENCE_STORAGE,
    SEQUENCE_GRADIENT
};

enum error_code evaluate_network(struct call *call, enum network_operation operation);

/* EVAL-006: the ranges of heads and the store's arrays, for the layouts of this port. */
void want_store(struct wanted *wanted, enum layout layout, int64_t units);

/* The results heads, words and flags. */
bool add_store(struct results *results, const struct buffer *buffer);

#endif
