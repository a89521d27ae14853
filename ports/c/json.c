#include "json.h"

#include <string.h>

#include "utf8.h"

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
