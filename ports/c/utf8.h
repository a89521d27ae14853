/* UTF-8, as JSON is written in it. */
#ifndef REVRNN_UTF8_H
#define REVRNN_UTF8_H

#include <stddef.h>

/* The length of the UTF-8 sequence at `at`, or 0 where there is none. */
size_t utf8_length(const char *at, const char *end);

/* Write a code point and return how many bytes that took, at most four. */
size_t encode_utf8(unsigned long code, char *out);

#endif
