/* JSON (RFC 8259): a parser into a tree. */
#ifndef REVRNN_JSON_H
#define REVRNN_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

/* A number is kept as its text, a string as its UTF-8 bytes. An array has a list of children, an
   object a list of names and values by turns. `length` counts bytes, or children without names. */
struct json {
    struct json *next;
    union {
        const char *text;
        struct json *child;
    } u;
    size_t length;
    enum json_type type;
};

enum json_status { JSON_OK, JSON_BAD, JSON_MEMORY };

/* The text must stay as long as the tree: strings and numbers point into it. */
enum json_status json_parse(struct arena *arena, const char *text, size_t length,
                            struct json **tree);

bool json_is_string(const struct json *node, const char *text);

/* Whether it is one of the names, which end with NULL. */
bool json_is_listed(const struct json *node, const char *const *names);

/* The value of a name, the last one where it stands more than once; NULL where there is none. */
const struct json *json_member(const struct json *object, const char *name);

/* An integer of 64 bits written without point or exponent. */
bool json_integer(const struct json *node, int64_t *value);

/* Decimal digits, with a minus or not, as an integer of 64 bits. */
bool parse_decimal(const char *text, size_t length, int64_t *value);

#endif
