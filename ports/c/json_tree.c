#include "json.h"

#include <string.h>

bool json_is_string(const struct json *node, const char *text)
{
    return node->type == JSON_STRING && node->length == strlen(text)
           && memcmp(node->u.text, text, node->length) == 0;
}

bool json_is_listed(const struct json *node, const char *const *names)
{
    for (; *names != NULL; names++)
        if (json_is_string(node, *names))
            return true;
    return false;
}

const struct json *json_member(const struct json *object, const char *name)
{
    const struct json *last = NULL;
    for (const struct json *key = object->u.child; key != NULL; key = key->next->next)
        if (json_is_string(key, name))
            last = key->next;
    return last;
}

bool parse_decimal(const char *text, size_t length, int64_t *value)
{
    const bool negative = length > 0 && text[0] == '-';
    int64_t v = 0;
    if (length == (negative ? 1 : 0))
        return false;
    /* The number is gathered below zero, where there is room for the lowest one too. */
    for (size_t i = negative ? 1 : 0; i < length; i++) {
        int digit;
        if (text[i] < '0' || text[i] > '9')
            return false;
        digit = text[i] - '0';
        if (v < (INT64_MIN + digit) / 10)
            return false;
        v = v * 10 - digit;
    }
    if (!negative && v == INT64_MIN)
        return false;
    *value = negative ? v : -v;
    return true;
}

bool json_integer(const struct json *node, int64_t *value)
{
    return node->type == JSON_NUMBER && parse_decimal(node->u.text, node->length, value);
}
