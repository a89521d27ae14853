#include "values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const dtype_names[] = {
    "i16", "i32", "i64", "u8", "u16", "f32", "f64", "bool", "bigint"
};

const char *dtype_name(enum dtype dtype)
{
    return dtype_names[dtype];
}

static bool parse_dtype(const struct json *json, enum dtype *dtype)
{
    for (int i = I16; i <= BIGINT; i++)
        if (json_is_string(json, dtype_names[i])) {
            *dtype = (enum dtype)i;
            return true;
        }
    return false;
}

/* CONF-004: a hexadecimal float, nan, inf or -inf. Text that no double equals is refused, so that
   nothing is ever rounded here. */
static bool parse_float(const struct json *json, double *value)
{
    const char *at, *end;
    uint64_t digits = 0;
    int64_t exponent = 0;
    bool negative = false, point = false, any = false;
    if (json->type != JSON_STRING)
        return false;
    at = json->u.text;
    end = at + json->length;
    if (json_is_string(json, "nan") || json_is_string(json, "inf")
        || json_is_string(json, "-inf")) {
        *value = *at == 'n' ? (double)NAN : *at == 'i' ? HUGE_VAL : -HUGE_VAL;
        return true;
    }
    if (at < end && *at == '-') {
        negative = true;
        at++;
    }
    if (end - at < 2 || at[0] != '0' || at[1] != 'x')
        return false;
    for (at += 2; at < end && *at != 'p'; at++) {
        int digit;
        if (*at == '.' && !point) {
            point = true;
            continue;
        }
        if (*at >= '0' && *at <= '9')
            digit = *at - '0';
        else if (*at >= 'a' && *at <= 'f')
            digit = *at - 'a' + 10;
        else
            return false;
        any = true;
        if (digits >> 60 != 0) {
            if (digit != 0)
                return false;
            exponent += point ? 0 : 4;
        } else {
            digits = digits << 4 | (uint64_t)digit;
            exponent -= point ? 4 : 0;
        }
    }
    if (!any)
        return false;
    if (at < end) {
        int64_t written;
        at += at + 1 < end && at[1] == '+' ? 2 : 1;
        if (!parse_decimal(at, (size_t)(end - at), &written)
            || (at[-1] == '+' && *at == '-') || written < -100000 || written > 100000)
            return false;
        exponent += written;
    }
    while (digits != 0 && digits % 2 == 0) {
        digits /= 2;
        exponent++;
    }
    if (digits == 0) {
        *value = negative ? -0.0 : 0.0;
        return true;
    }
    if (digits >> 53 != 0 || exponent < -1074 || exponent > 1023)
        return false;
    *value = ldexp(negative ? -(double)digits : (double)digits, (int)exponent);
    return isfinite(*value);
}

static bool parse_element(enum dtype dtype, const struct json *json, struct array *array,
                          int64_t at)
{
    static const int64_t lowest[] = {INT16_MIN, INT32_MIN, INT64_MIN, 0, 0};
    static const int64_t highest[] = {INT16_MAX, INT32_MAX, INT64_MAX, UINT8_MAX, UINT16_MAX};
    int64_t integer;
    switch (dtype) {
    case I16:
    case I32:
    case U8:
    case U16:
        if (!json_integer(json, &integer) || integer < lowest[dtype] || integer > highest[dtype])
            return false;
        break;
    case I64:
        if (json->type != JSON_STRING || !parse_decimal(json->u.text, json->length, &integer))
            return false;
        break;
    case BOOL:
        if (json->type != JSON_TRUE && json->type != JSON_FALSE)
            return false;
        integer = json->type == JSON_TRUE;
        break;
    case BIGINT:
        if (json->type != JSON_STRING || json->length == 0)
            return false;
        for (size_t i = 0; i < json->length; i++) {
            const char c = json->u.text[i];
            if ((c < '0' || c > '9') && (c != '-' || i > 0 || json->length == 1))
                return false;
        }
        return true;
    default:
        if (!parse_float(json, &array->floats[at]))
            return false;
        /* Only what binary32 has can be an element of f32. */
        return dtype == F64 || !isfinite(array->floats[at])
               || (double)(float)array->floats[at] == array->floats[at];
    }
    array->integers[at] = integer;
    return true;
}

static enum json_status parse_array(struct arena *arena, const struct json *data,
                                    const struct json *shape, struct array *array)
{
    size_t axis = 0;
    int64_t at = 0;
    array->axes = shape->length;
    array->shape = arena_alloc(arena, (int64_t)array->axes, sizeof *array->shape);
    if (array->shape == NULL)
        return JSON_MEMORY;
    for (const struct json *node = shape->u.child; node != NULL; node = node->next, axis++)
        if (!json_integer(node, &array->shape[axis]) || array->shape[axis] < 0)
            return JSON_BAD;
    array->count = checked_product(array->shape, array->axes);
    if (array->count < 0 || (uint64_t)array->count != (uint64_t)data->length)
        return JSON_BAD;
    if (array->dtype == F32 || array->dtype == F64)
        array->floats = arena_alloc(arena, array->count, sizeof *array->floats);
    else
        array->integers = arena_alloc(arena, array->count, sizeof *array->integers);
    if (array->floats == NULL && array->integers == NULL)
        return JSON_MEMORY;
    for (const struct json *node = data->u.child; node != NULL; node = node->next, at++)
        if (!parse_element(array->dtype, node, array, at))
            return JSON_BAD;
    return JSON_OK;
}

void scalar_from_json(const struct json *json, struct value *value)
{
    memset(value, 0, sizeof *value);
    value->json = json;
    value->kind = KIND_OTHER;
    if (json->type == JSON_NULL)
        value->kind = KIND_NONE;
    else if (json->type == JSON_STRING)
        value->kind = KIND_STRING;
    else if (json->type == JSON_OBJECT)
        value->kind = KIND_OBJECT;
    else if (json_integer(json, &value->integer))
        value->kind = KIND_INT;
    else if (json->type == JSON_TRUE || json->type == JSON_FALSE) {
        value->kind = KIND_BOOL;
        value->integer = json->type == JSON_TRUE;
    }
}

enum json_status value_from_json(struct arena *arena, const struct json *json,
                                 struct value *value)
{
    const struct json *data, *dtype, *shape;
    scalar_from_json(json, value);
    if (json->type != JSON_OBJECT)
        return JSON_OK;
    if (json->length == 1 && json_is_string(json->u.child, "f64")
        && json->u.child->next->type == JSON_STRING) {
        value->kind = KIND_FLOAT;
        return parse_float(json->u.child->next, &value->number) ? JSON_OK : JSON_BAD;
    }
    data = json_member(json, "data");
    dtype = json_member(json, "dtype");
    shape = json_member(json, "shape");
    if (json->length != 3 || data == NULL || data->type != JSON_ARRAY || dtype == NULL
        || shape == NULL || shape->type != JSON_ARRAY
        || !parse_dtype(dtype, &value->array.dtype))
        return JSON_OK;
    value->kind = KIND_ARRAY;
    return parse_array(arena, data, shape, &value->array);
}

bool value_is_string(const struct value *value, const char *text)
{
    return value->kind == KIND_STRING && json_is_string(value->json, text);
}

bool value_is_integer(const struct value *value, int64_t lo, int64_t hi)
{
    return value->kind == KIND_INT && value->integer >= lo && value->integer <= hi;
}

void describe_value(const struct value *value, char *text, size_t size)
{
    int length;
    switch (value->kind) {
    case KIND_NONE:
        snprintf(text, size, "null");
        break;
    case KIND_BOOL:
        snprintf(text, size, value->integer != 0 ? "true" : "false");
        break;
    case KIND_INT:
        snprintf(text, size, "%lld", (long long)value->integer);
        break;
    case KIND_FLOAT:
        snprintf(text, size, "the float %g", value->number);
        break;
    case KIND_STRING:
        length = value->json->length < 40 ? (int)value->json->length : 40;
        snprintf(text, size, "'%.*s'", length, value->json->u.text);
        break;
    case KIND_ARRAY:
        length = snprintf(text, size, "%s [", dtype_name(value->array.dtype));
        for (size_t i = 0; i < value->array.axes && (size_t)length < size; i++)
            length += snprintf(text + length, size - (size_t)length, i > 0 ? ", %lld" : "%lld",
                               (long long)value->array.shape[i]);
        if ((size_t)length < size)
            snprintf(text + length, size - (size_t)length, "]");
        break;
    case KIND_OBJECT:
        snprintf(text, size, "an object");
        break;
    default:
        snprintf(text, size, "a value of another kind");
        break;
    }
}
