#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request is nested five deep. The limit keeps hostile input from using up the stack. */
#define MAX_DEPTH 64

struct parser {
    struct arena *arena;
    const char *at;
    const char *end;
    enum json_status status;
};

static struct json *fail(struct parser *parser, enum json_status status)
{
    if (parser->status == JSON_OK)
        parser->status = status;
    return NULL;
}

static struct json *new_node(struct parser *parser, enum json_type type)
{
    struct json *node = arena_alloc(parser->arena, 1, sizeof *node);
    if (node == NULL)
        return fail(parser, JSON_MEMORY);
    node->type = type;
    return node;
}

static void skip_space(struct parser *parser)
{
    while (parser->at < parser->end && (*parser->at == ' ' || *parser->at == '\t'
                                        || *parser->at == '\n' || *parser->at == '\r'))
        parser->at++;
}

static bool take(struct parser *parser, char c)
{
    if (parser->at < parser->end && *parser->at == c) {
        parser->at++;
        return true;
    }
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t take_digits(struct parser *parser)
{
    const char *start = parser->at;
    while (parser->at < parser->end && is_digit(*parser->at))
        parser->at++;
    return (size_t)(parser->at - start);
}

static struct json *parse_word(struct parser *parser, const char *word, enum json_type type)
{
    const size_t length = strlen(word);
    if ((size_t)(parser->end - parser->at) < length || memcmp(parser->at, word, length) != 0)
        return fail(parser, JSON_BAD);
    parser->at += length;
    return new_node(parser, type);
}

static struct json *parse_number(struct parser *parser)
{
    const char *start = parser->at;
    struct json *node;
    take(parser, '-');
    if (!take(parser, '0') && take_digits(parser) == 0)
        return fail(parser, JSON_BAD);
    if (take(parser, '.') && take_digits(parser) == 0)
        return fail(parser, JSON_BAD);
    if (take(parser, 'e') || take(parser, 'E')) {
        if (!take(parser, '+'))
            take(parser, '-');
        if (take_digits(parser) == 0)
            return fail(parser, JSON_BAD);
    }
    node = new_node(parser, JSON_NUMBER);
    if (node != NULL) {
        node->u.text = start;
        node->length = (size_t)(parser->at - start);
    }
    return node;
}

/* The length of the UTF-8 sequence at `at`, or 0 where there is none. */
static size_t utf8_length(const char *at, const char *end)
{
    const unsigned char *b = (const unsigned char *)at;
    const size_t left = (size_t)(end - at);
    size_t length;
    if (b[0] < 0x80)
        return 1;
    if (b[0] < 0xC2 || b[0] > 0xF4)
        return 0;
    length = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
    if (left < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((b[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, halves of surrogate pairs, and what is beyond the last code point. */
    if ((b[0] == 0xE0 && b[1] < 0xA0) || (b[0] == 0xED && b[1] > 0x9F)
        || (b[0] == 0xF0 && b[1] < 0x90) || (b[0] == 0xF4 && b[1] > 0x8F))
        return 0;
    return length;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool parse_hex4(struct parser *parser, unsigned long *value)
{
    if (parser->end - parser->at < 4)
        return false;
    *value = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(*parser->at++);
        if (digit < 0)
            return false;
        *value = *value * 16 + (unsigned long)digit;
    }
    return true;
}

static size_t encode_utf8(unsigned long code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | (code >> 6));
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | (code >> 12));
        out[1] = (char)(0x80 | ((code >> 6) & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (code >> 18));
    out[1] = (char)(0x80 | ((code >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((code >> 6) & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* The part of an escape after the backslash. Half a surrogate pair alone is kept as it is. */
static size_t parse_escape(struct parser *parser, char *out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *name;
    unsigned long code, second;
    if (parser->at == parser->end)
        return 0;
    if (*parser->at != 'u') {
        if (*parser->at == '\0' || (name = strchr(names, *parser->at)) == NULL)
            return 0;
        parser->at++;
        *out = meanings[name - names];
        return 1;
    }
    parser->at++;
    if (!parse_hex4(parser, &code))
        return 0;
    if (code >= 0xD800 && code < 0xDC00 && parser->end - parser->at >= 6
        && parser->at[0] == '\\' && parser->at[1] == 'u') {
        const char *mark = parser->at;
        parser->at += 2;
        if (!parse_hex4(parser, &second))
            return 0;
        if (second >= 0xDC00 && second < 0xE000)
            code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
        else
            parser->at = mark;
    }
    return encode_utf8(code, out);
}

static struct json *parse_string(struct parser *parser)
{
    const char *start;
    const char *scan;
    struct json *node;
    char *copy = NULL;
    size_t length = 0;
    if (!take(parser, '"'))
        return fail(parser, JSON_BAD);
    start = parser->at;
    for (scan = start; scan < parser->end && *scan != '"' && *scan != '\\';)
        scan++;
    if (scan < parser->end && *scan == '\\') {
        /* An escape is never shorter than what it stands for. */
        while (scan < parser->end && *scan != '"')
            scan += *scan == '\\' ? 2 : 1;
        if (scan >= parser->end)
            return fail(parser, JSON_BAD);
        copy = arena_alloc(parser->arena, scan - start + 1, 1);
        if (copy == NULL)
            return fail(parser, JSON_MEMORY);
    }
    while (parser->at < parser->end && *parser->at != '"') {
        size_t piece;
        if ((unsigned char)*parser->at < 0x20)
            return fail(parser, JSON_BAD);
        if (*parser->at == '\\') {
            parser->at++;
            piece = parse_escape(parser, copy + length);
        } else {
            piece = utf8_length(parser->at, parser->end);
            if (copy != NULL)
                memcpy(copy + length, parser->at, piece);
            parser->at += piece;
        }
        if (piece == 0)
            return fail(parser, JSON_BAD);
        length += piece;
    }
    if (!take(parser, '"'))
        return fail(parser, JSON_BAD);
    node = new_node(parser, JSON_STRING);
    if (node != NULL) {
        node->u.text = copy != NULL ? copy : start;
        node->length = length;
    }
    return node;
}

static struct json *parse_value(struct parser *parser, int depth);

static struct json *parse_list(struct parser *parser, int depth, enum json_type type)
{
    const char close = type == JSON_ARRAY ? ']' : '}';
    struct json *list = new_node(parser, type);
    struct json **tail;
    if (list == NULL)
        return NULL;
    tail = &list->u.child;
    parser->at++;
    skip_space(parser);
    if (take(parser, close))
        return list;
    do {
        skip_space(parser);
        if (type == JSON_OBJECT) {
            *tail = parse_string(parser);
            if (*tail == NULL)
                return NULL;
            tail = &(*tail)->next;
            skip_space(parser);
            if (!take(parser, ':'))
                return fail(parser, JSON_BAD);
        }
        *tail = parse_value(parser, depth + 1);
        if (*tail == NULL)
            return NULL;
        tail = &(*tail)->next;
        list->length++;
        skip_space(parser);
    } while (take(parser, ','));
    return take(parser, close) ? list : fail(parser, JSON_BAD);
}

static struct json *parse_value(struct parser *parser, int depth)
{
    skip_space(parser);
    if (parser->at == parser->end || depth > MAX_DEPTH)
        return fail(parser, JSON_BAD);
    switch (*parser->at) {
    case '{':
        return parse_list(parser, depth, JSON_OBJECT);
    case '[':
        return parse_list(parser, depth, JSON_ARRAY);
    case '"':
        return parse_string(parser);
    case 'n':
        return parse_word(parser, "null", JSON_NULL);
    case 't':
        return parse_word(parser, "true", JSON_TRUE);
    case 'f':
        return parse_word(parser, "false", JSON_FALSE);
    default:
        return parse_number(parser);
    }
}

enum json_status json_parse(struct arena *arena, const char *text, size_t length,
                            struct json **tree)
{
    struct parser parser = {arena, text, text + length, JSON_OK};
    *tree = parse_value(&parser, 0);
    skip_space(&parser);
    if (parser.status == JSON_OK && parser.at != parser.end)
        parser.status = JSON_BAD;
    return parser.status;
}

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
        if (!is_digit(text[i]))
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

static bool make_room(struct writer *writer, size_t more)
{
    size_t size = writer->size == 0 ? 1024 : writer->size;
    char *text;
    if (writer->failed)
        return false;
    if (writer->size - writer->length >= more)
        return true;
    while (size - writer->length < more) {
        if (size > SIZE_MAX / 2) {
            writer->failed = true;
            return false;
        }
        size *= 2;
    }
    text = realloc(writer->text, size);
    if (text == NULL) {
        writer->failed = true;
        return false;
    }
    writer->text = text;
    writer->size = size;
    return true;
}

static void write_bytes(struct writer *writer, const char *bytes, size_t length)
{
    if (make_room(writer, length)) {
        memcpy(writer->text + writer->length, bytes, length);
        writer->length += length;
    }
}

void write_text(struct writer *writer, const char *text)
{
    write_bytes(writer, text, strlen(text));
}

void write_integer(struct writer *writer, int64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        digits[--at] = '-';
    write_bytes(writer, digits + at, sizeof digits - at);
}

void write_string(struct writer *writer, const char *text)
{
    write_text(writer, "\"");
    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            write_text(writer, "\\");
        write_bytes(writer, c < 0x20 || c > 0x7E ? "?" : text, 1);
    }
    write_text(writer, "\"");
}

/* CONF-004 */
void write_float(struct writer *writer, double value)
{
    char text[64];
    if (isnan(value))
        write_text(writer, "\"nan\"");
    else if (isinf(value))
        write_text(writer, value > 0 ? "\"inf\"" : "\"-inf\"");
    else {
        snprintf(text, sizeof text, "\"%a\"", value);
        write_text(writer, text);
    }
}
