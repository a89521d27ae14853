/* EVAL-002, CONF-004: the values of arguments and results. */
#ifndef REVRNN_VALUES_H
#define REVRNN_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "memory.h"

enum dtype { I16, I32, I64, U8, U16, F32, F64, BOOL, BIGINT };

/* Elements in row-major order: integers of every type and bool as int64_t, floats as double.
   The elements of bigint are not kept, since this port does not offer that layout. */
struct array {
    enum dtype dtype;
    size_t axes;
    int64_t *shape;
    int64_t count;
    int64_t *integers;
    double *floats;
};

enum kind {
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_FLOAT,
    KIND_STRING,
    KIND_ARRAY,
    KIND_OBJECT,
    KIND_OTHER      /* what CONF-004 gives no meaning: a value of a wrong kind */
};

struct value {
    enum kind kind;
    int64_t integer;            /* of KIND_INT and KIND_BOOL */
    double number;              /* of KIND_FLOAT */
    const struct json *json;    /* of what came from a request */
    struct array array;
};

const char *dtype_name(enum dtype dtype);

/* The value of an argument. JSON_BAD where it is no request of this protocol (CONF-004). */
enum json_status value_from_json(struct arena *arena, const struct json *json,
                                 struct value *value);

/* The same for what stands inside config and formats, where arrays are of a wrong kind. */
void scalar_from_json(const struct json *json, struct value *value);

bool value_is_string(const struct value *value, const char *text);
bool value_is_integer(const struct value *value, int64_t lo, int64_t hi);

/* ERR-004: what was given, in a few words. */
void describe_value(const struct value *value, char *text, size_t size);

#endif
