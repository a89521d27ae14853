#include "writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
