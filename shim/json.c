#include "json.h"

#include <string.h>

#include "report.h"
#include "sys.h"

enum { FIRST_ROOM = 64 * 1024 };

static bool make_room(struct fs_json *json, size_t more) {
    if (json->cut || json->length + more <= json->room) {
        return !json->cut;
    }
    size_t room = json->room == 0 ? FIRST_ROOM : json->room;
    while (room < json->length + more) {
        room *= 2;
    }
    char *grown = fs_map_larger(json->text, json->room, room);
    if (grown == NULL) {
        json->cut = true;
        return false;
    }
    json->text = grown;
    json->room = room;
    return true;
}

void fs_json_free(struct fs_json *json) {
    if (json->room != 0) {
        fs_unmap(json->text, json->room);
    }
    *json = (struct fs_json){0};
}

static void add(struct fs_json *json, const char *text, size_t length) {
    if (make_room(json, length)) {
        memcpy(json->text + json->length, text, length);
        json->length += length;
    }
}

void fs_json_raw(struct fs_json *json, const char *text) { add(json, text, strlen(text)); }

static const char hex_digits[] = "0123456789abcdef";

/* The bytes of a name may be no UTF-8: what is not ASCII is written as Latin-1 would be. */
static void add_quoted(struct fs_json *json, const char *value) {
    add(json, "\"", 1);
    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;
        if (byte == '"' || byte == '\\') {
            char escaped[] = {'\\', *value};
            add(json, escaped, sizeof escaped);
        } else if (byte < ' ' || byte >= 0x7f) {
            char escaped[] = {'\\', 'u', '0', '0', hex_digits[byte >> 4], hex_digits[byte & 15]};
            add(json, escaped, sizeof escaped);
        } else {
            add(json, value, 1);
        }
    }
    add(json, "\"", 1);
}

static void add_key(struct fs_json *json, const char *key) {
    const char *last = json->length != 0 ? &json->text[json->length - 1] : "{";
    if (*last != '{' && *last != '[') {
        add(json, ",", 1);
    }
    if (key != NULL) {
        add_quoted(json, key);
        add(json, ":", 1);
    }
}

void fs_json_begin(struct fs_json *json, const char *key, char bracket) {
    add_key(json, key);
    add(json, &bracket, 1);
}

void fs_json_end(struct fs_json *json, char bracket) { add(json, &bracket, 1); }

void fs_json_string(struct fs_json *json, const char *key, const char *value) {
    add_key(json, key);
    add_quoted(json, value);
}

void fs_json_number(struct fs_json *json, const char *key, int64_t value) {
    char digits[32];
    struct fs_text text = fs_text(digits, sizeof digits);
    fs_text_number(&text, value);
    add_key(json, key);
    fs_json_raw(json, digits);
}

void fs_json_bool(struct fs_json *json, const char *key, bool value) {
    add_key(json, key);
    fs_json_raw(json, value ? "true" : "false");
}

void fs_json_null(struct fs_json *json, const char *key) {
    add_key(json, key);
    fs_json_raw(json, "null");
}

void fs_json_hex(struct fs_json *json, const char *key, uintptr_t value) {
    char digits[32];
    struct fs_text text = fs_text(digits, sizeof digits);
    fs_text_hex(&text, value);
    fs_json_string(json, key, digits);
}

void fs_json_bytes(struct fs_json *json, const char *key, const unsigned char *bytes,
                   size_t count) {
    add_key(json, key);
    add(json, "\"", 1);
    for (size_t i = 0; i < count; i++) {
        char digits[] = {hex_digits[bytes[i] >> 4], hex_digits[bytes[i] & 15]};
        add(json, digits, sizeof digits);
    }
    add(json, "\"", 1);
}
