/* CONF-003: a process that answers requests, one line of JSON each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operations.h"

#define SPEC_VERSION "0.2"
#define HELLO "{\"hello\": {\"name\": \"revrnn-c\", \"layouts\": [\"stream\", \"wordlist\"], " \
    "\"profiles\": [\"gates\", \"buffer\", \"cell\", \"sequence\"], " \
    "\"spec_version\": \"" SPEC_VERSION "\"}}"

#define EXIT_NO_REQUEST 2
#define MAX_LINE ((size_t)1 << 30)

struct line {
    char *text;
    size_t length;
    size_t size;
};

enum line_status { LINE_READ, LINE_END, LINE_FAILED };

/* A line without its line feed. The last one may lack it. */
static enum line_status read_line(struct line *line)
{
    int c = EOF;
    line->length = 0;
    while ((c = getchar()) != EOF && c != '\n') {
        if (line->length == line->size) {
            const size_t size = line->size == 0 ? 4096 : line->size * 2;
            char *text = size > MAX_LINE ? NULL : realloc(line->text, size);
            if (text == NULL)
                return LINE_FAILED;
            line->text = text;
            line->size = size;
        }
        line->text[line->length++] = (char)c;
    }
    if (ferror(stdin))
        return LINE_FAILED;
    return c == EOF && line->length == 0 ? LINE_END : LINE_READ;
}

/* The answer to one operation. False where the request is none of this protocol. */
static bool answer_operation(struct arena *arena, const struct json *request,
                             struct writer *writer)
{
    const struct json *id = json_member(request, "id");
    const struct json *operation = json_member(request, "operation");
    const struct json *arguments = json_member(request, "args");
    struct results results;
    struct fault fault = {NO_ERROR, ""};
    enum json_status status;
    int64_t number;
    if (id == NULL || !json_integer(id, &number) || number < 0 || number > INT32_MAX
        || operation == NULL || operation->type != JSON_STRING || arguments == NULL
        || arguments->type != JSON_OBJECT)
        return false;
    status = evaluate(arena, operation, arguments, &results, &fault);
    if (status == JSON_BAD)
        return false;
    if (status == JSON_MEMORY)
        set_fault(&fault, NO_MEMORY, "the arguments need more memory than there is");
    write_text(writer, "{\"id\": ");
    write_integer(writer, number);
    if (fault.code == NO_ERROR) {
        write_text(writer, ", \"out\": ");
        write_results(writer, &results);
    } else {
        write_text(writer, ", \"error\": ");
        write_string(writer, error_name(fault.code));
        write_text(writer, ", \"message\": ");
        write_string(writer, fault.message);
    }
    write_text(writer, "}");
    return true;
}

static bool answer_request(struct arena *arena, const struct line *line, struct writer *writer)
{
    const struct json *hello;
    struct json *request;
    if (line->length == 0
        || json_parse(arena, line->text, line->length, &request) != JSON_OK
        || request->type != JSON_OBJECT)
        return false;
    hello = json_member(request, "hello");
    if (hello == NULL)
        return answer_operation(arena, request, writer);
    write_text(writer, HELLO);
    return hello->type == JSON_OBJECT;
}

static int answer_all(struct line *line)
{
    for (unsigned long number = 1;; number++) {
        struct arena arena = {NULL, 0};
        struct writer writer = {NULL, 0, 0, false};
        const enum line_status status = read_line(line);
        bool understood, written = false;
        if (status == LINE_END)
            return EXIT_SUCCESS;
        if (status == LINE_FAILED) {
            fprintf(stderr, "revrnn-port: line %lu cannot be read\n", number);
            return EXIT_FAILURE;
        }
        understood = answer_request(&arena, line, &writer);
        write_text(&writer, "\n");
        arena_free(&arena);
        /* A long line leaves nothing behind either. */
        free(line->text);
        memset(line, 0, sizeof *line);
        if (understood && !writer.failed)
            written = fwrite(writer.text, 1, writer.length, stdout) == writer.length
                      && fflush(stdout) == 0;
        free(writer.text);
        if (!understood) {
            fprintf(stderr, "revrnn-port: line %lu is no request\n", number);
            return EXIT_NO_REQUEST;
        }
        if (!written) {
            fprintf(stderr, "revrnn-port: line %lu has an answer that cannot be written\n",
                    number);
            return EXIT_FAILURE;
        }
    }
}

int main(void)
{
    struct line line = {NULL, 0, 0};
    const int status = answer_all(&line);
    free(line.text);
    return status;
}
