/* The arguments of a call, and the checks that operations have in common. */
#ifndef REVRNN_ARGUMENTS_H
#define REVRNN_ARGUMENTS_H

#include "errors.h"
#include "results.h"

struct argument {
    const struct json *name;
    size_t position;
    struct value value;
};

struct call {
    struct arena *arena;
    const char *operation;
    int which;                      /* of the operations that one function computes */
    struct argument *arguments;     /* sorted by name */
    size_t count;
    struct results *results;
    struct fault *fault;
};

enum json_status read_arguments(struct call *call, const struct json *arguments);

/* NULL where there is none. Arguments belong to their call alone, so their elements may be worked
   on. */
struct value *find_argument(const struct call *call, const char *name);

/* ERR-002, 3. Lists end with NULL. With layers > 0 the weights of CELL-003 are required too. */
enum error_code check_names(const struct call *call, const char *const *required,
                            const char *const *optional, int64_t layers);

/* ERR-002, 4. */
enum error_code integer_argument(const struct call *call, const char *name, int64_t lo, int64_t hi,
                                 enum error_code code, int64_t *value);

/* One of the choices, which end with NULL, as their number; else E_ARGUMENT. */
enum error_code choice_argument(const struct call *call, const char *name,
                                const char *const *choices, int *choice);

/* Lengths that stand for whatever is found first. Those down to DIM_LEAST_ONE are at least 1. */
enum {
    DIM_T = -1, DIM_W = -2, DIM_P = -3, DIM_F = -4,
    DIM_T_PLUS_1 = -5,
    DIM_LEAST_ONE = -6,
    DIM_M = -6, DIM_N = -7, DIM_K = -8, DIM_B = -9, DIM_G = -10,
    DIM_TOO_LONG = -11,     /* a product that PROD-002 forbids: no length is right */
    DIM_COUNT = 12
};

/* An array that an operation takes. */
struct wanted {
    const char *name;
    enum dtype dtype;
    size_t axes;            /* 0 for any number, at least one */
    int64_t shape[4];
    int64_t lo;             /* of the elements, where lo < hi */
    int64_t hi;
    struct array *array;    /* what was given, filled in by check_arrays */
};

/* ERR-002, 6. Arrays that may be absent are passed over. Lengths found are kept in bound. */
enum error_code check_arrays(const struct call *call, struct wanted *wanted, size_t count,
                             int64_t bound[DIM_COUNT]);

#endif
