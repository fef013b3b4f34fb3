
/* What follows is no part of the boundary: small helpers that most authors in C would write themselves. */

#ifdef __cplusplus
extern "C" {
#endif

/* A text that is a literal, as an initializer: `struct MfText id = MF_TEXT("flat");`. */
#define MF_TEXT(literal) {(const uint8_t *)("" literal), sizeof(literal) - 1}

/* An array of the author's own, as an initializer. */
#define MF_ARRAY(first, n) {(first), (n), sizeof *(first)}

/* Whether the maker of the struct that `ptr` points at knew of this field of `type`. Fields of version 1.0 are always
 * known; what came later has to be asked for. */
#define MF_KNOWS(ptr, type, field) ((ptr)->struct_size >= offsetof(type, field) + sizeof((ptr)->field))

/* A text that ends with a NUL. */
static inline struct MfText mf_text(const char *text) {
    struct MfText found = {(const uint8_t *)text, text ? (uint64_t)strlen(text) : 0};
    return found;
}

/* Whether a text is this one, which ends with a NUL. */
static inline int mf_is(struct MfText text, const char *other) {
    return text.len == strlen(other) && (text.len == 0 || memcmp(text.ptr, other, (size_t)text.len) == 0);
}

/* The little-endian number in `n` bytes, at most 8. */
static inline uint64_t mf_number(const uint8_t *bytes, int n) {
    uint64_t found = 0;
    while (n > 0)
        found = found << 8 | bytes[--n];
    return found;
}

/* Element `idx` of an array that the program made: its elements may be longer than this header knows. */
static inline const void *mf_at(const struct MfSlice *slice, uint64_t idx) {
    return (const uint8_t *)slice->ptr + idx * slice->stride;
}

/* Fills the struct that the program has made room for with one of the author's, of `size` bytes: as far as both know it. */
static inline void mf_give(void *room, const void *made, uint64_t size) {
    uint64_t known;
    memcpy(&known, room, sizeof known);
    known = known < size ? known : size;
    memcpy(room, made, (size_t)known);
    memcpy(room, &known, sizeof known);
}

/* Tells why a call fails, and gives what it is to return. `what` ends with a NUL: no capital, no full stop. */
static inline int32_t mf_fail(const struct MfReport *report, uint32_t kind, const char *what) {
    struct MfError error;
    memset(&error, 0, sizeof error);
    error.struct_size = sizeof error;
    error.kind = kind;
    error.what = mf_text(what);
    report->error(report->context, &error);
    return MF_FAILED;
}

/* The same for a file that breaks the rules of its format, from byte `offset` on. */
static inline int32_t mf_malformed(const struct MfCall *call, uint32_t file, uint64_t offset, const char *what) {
    uint8_t name[1024];
    uint64_t len = call->host->name(call->call, file, name, sizeof name);
    struct MfError error;
    memset(&error, 0, sizeof error);
    error.struct_size = sizeof error;
    error.kind = MF_ERROR_MALFORMED;
    error.what = mf_text(what);
    error.file.ptr = name;
    error.file.len = len < sizeof name ? len : sizeof name;
    error.has_offset = 1;
    error.offset = offset;
    call->report->error(call->report->context, &error);
    return MF_FAILED;
}

#ifdef __cplusplus
}
#endif
