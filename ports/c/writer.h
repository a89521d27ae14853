/* Text that grows: what is written of JSON (RFC 8259). */
#ifndef REVRNN_WRITER_H
#define REVRNN_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text that grows. After a failure it stays as it is and `failed` is set. */
struct writer {
    char *text;
    size_t length;
    size_t size;
    bool failed;
};

void write_text(struct writer *writer, const char *text);
void write_integer(struct writer *writer, int64_t value);
void write_string(struct writer *writer, const char *text);     /* what is not ASCII becomes ? */
void write_float(struct writer *writer, double value);          /* CONF-004, quotes included */

#endif
