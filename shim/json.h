/* json.h - JSON text, put together without stdio or malloc.
 *
 * For a child that has not run its atfork handlers yet. The memory is mapped, and grows; where that
 * fails, the text is marked as cut and nothing more is added. */
#ifndef FS_JSON_H
#define FS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fs_json {
    char *text;
    size_t length, room;
    bool cut;
};

void fs_json_free(struct fs_json *json);

/* `key` is NULL inside an array. Commas are put where they belong. */
void fs_json_begin(struct fs_json *json, const char *key, char bracket); /* '{' or '[' */
void fs_json_end(struct fs_json *json, char bracket);                    /* '}' or ']' */
void fs_json_string(struct fs_json *json, const char *key, const char *value);
void fs_json_number(struct fs_json *json, const char *key, int64_t value);
void fs_json_bool(struct fs_json *json, const char *key, bool value);
void fs_json_null(struct fs_json *json, const char *key);
/* "0x12ab", as a string: JSON's numbers are not exact above 2^53. */
void fs_json_hex(struct fs_json *json, const char *key, uintptr_t value);
/* Bytes as hexadecimal digits. */
void fs_json_bytes(struct fs_json *json, const char *key, const unsigned char *bytes, size_t count);
/* Text as it is. */
void fs_json_raw(struct fs_json *json, const char *text);

#endif
