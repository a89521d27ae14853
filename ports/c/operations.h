/* EVAL: operations by name, with the checks of ERR-002 before each. */
#ifndef REVRNN_OPERATIONS_H
#define REVRNN_OPERATIONS_H

#include "arguments.h"

/* JSON_BAD where the arguments are no request of CONF-004, JSON_MEMORY where they are too large.
   Else the fault's code is NO_ERROR and there are results, or there are none. */
enum json_status evaluate(struct arena *arena, const struct json *operation,
                          const struct json *arguments, struct results *results,
                          struct fault *fault);

#endif
