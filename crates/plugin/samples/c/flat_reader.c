/* Reads flat files, which README.md describes. A plugin of modelferry in plain C, to copy from. */
#include "modelferry_plugin.h"
#include <stdlib.h>

#define MAGIC "FLAT 1\n"
#define MOST_RANK 8
#define RUN 12 /* bytes of a run: where it ends, and the element that it repeats */

/* A tensor with what the reader knows of it besides. The program finds the next one by the stride of the array. */
struct Entry {
    struct MfTensor tensor;
    uint64_t shape[MOST_RANK], n, at, bytes; /* number of elements; where they lie in the data file */
};

/* All that a model points at: it stays until the program releases it. */
struct Flat {
    uint8_t *text; /* the index, with a line feed behind it; names lie in it */
    struct Entry *entries;
    uint64_t len, pos, n_entries, data_len;
    uint32_t data; /* the data file */
};

static void flat_release(void *owner) {
    struct Flat *flat = owner;
    free(flat->entries);
    free(flat->text);
    free(flat);
}

/* The next word of the line, without the space behind it; empty at the line's end. */
static struct MfText word(struct Flat *flat) {
    struct MfText found = {flat->text + flat->pos, 0};
    while (found.ptr[found.len] != ' ' && found.ptr[found.len] != '\n')
        found.len++;
    flat->pos += found.len + (found.ptr[found.len] == ' ');
    return found;
}

/* Goes to the next line if this one has ended. The line feed that we put behind the text ends none. */
static int line_ends(struct Flat *flat) {
    int ends = flat->pos < flat->len && flat->text[flat->pos] == '\n';
    flat->pos += (uint64_t)ends;
    return ends;
}

/* Whether a word is from 1 to `most` bytes long, all of them between two. */
static int is_of(struct MfText word, uint64_t most, uint8_t low, uint8_t high) {
    uint64_t i = 0;
    while (i < word.len && word.ptr[i] >= low && word.ptr[i] <= high)
        i++;
    return i == word.len && i > 0 && i <= most;
}

static int number(struct Flat *flat, uint64_t *found) {
    struct MfText digits = word(flat);
    *found = 0;
    for (uint64_t i = 0; i < digits.len; i++)
        *found = *found * 10 + (uint64_t)digits.ptr[i] - '0';
    return is_of(digits, 18, '0', '9'); /* so few do not overflow */
}

/* Reads the rest of a line that describes a tensor. Returns what is wrong with it, or null. */
static const char *read_tensor(struct Flat *flat, struct Entry *entry) {
    struct MfTensor *tensor = &entry->tensor;
    tensor->name = word(flat);
    struct MfText type = word(flat), packing = word(flat);
    tensor->dtype = mf_is(type, "f32") ? MF_DTYPE_F32 : MF_DTYPE_I32;
    tensor->shape = entry->shape;
    if (!is_of(tensor->name, 255, '!', '~') || (tensor->dtype != MF_DTYPE_F32 && !mf_is(type, "i32")))
        return "a name that is not 1 to 255 printable characters, or a type that is neither f32 nor i32";
    if (!number(flat, &entry->at) || !number(flat, &entry->bytes) || entry->at > flat->data_len ||
        entry->bytes > flat->data_len - entry->at)
        return "a tensor's place is not two numbers, or not in the data";
    for (entry->n = 1; !line_ends(flat); tensor->rank++) {
        uint64_t *extent = &entry->shape[tensor->rank];
        if (tensor->rank == MOST_RANK || !number(flat, extent) || (*extent && entry->n > INT64_MAX / 4 / *extent))
            return "an extent is no number, too large, or one too many";
        entry->n *= *extent;
    }
    /* Raw bytes the program copies by itself. It asks for others, under the token that we choose: the position. */
    int is_raw = mf_is(packing, "raw");
    tensor->data.kind = is_raw ? MF_DATA_FILE : MF_DATA_MADE;
    tensor->data.file = flat->data;
    tensor->data.at = is_raw ? entry->at : (uint64_t)(entry - flat->entries);
    if (is_raw ? entry->bytes != entry->n * 4 : !mf_is(packing, "rle") || entry->bytes % RUN != 0)
        return "a tensor is neither raw, with as many bytes as its shape says, nor made of whole runs";
    return NULL;
}

/* Makes `len` bytes of a tensor out of its runs. Nothing is kept between calls: they come from several threads. */
static int32_t flat_read_at(void *owner, const struct MfCall *call, uint64_t source, uint64_t token, uint64_t offset,
                            uint8_t *out, uint64_t len) {
    const struct Flat *flat = owner;
    const struct Entry *entry = &flat->entries[token];
    uint8_t runs[RUN * 256];
    uint64_t low = 0, n_runs = entry->bytes / RUN, high = n_runs;
    (void)source; /* we have one */
    while (low < high) { /* to the first run that ends behind the first byte */
        uint64_t middle = low + (high - low) / 2;
        if (call->host->read_at(call->call, call->report, flat->data, entry->at + middle * RUN, runs, RUN) != MF_OK)
            return MF_FAILED;
        if (mf_number(runs, 8) <= offset / 4)
            low = middle + 1;
        else
            high = middle;
    }
    while (len > 0) {
        uint64_t n = n_runs - low < 256 ? n_runs - low : 256, at = entry->at + low * RUN;
        if (n == 0)
            return mf_malformed(call, flat->data, at, "the runs of a tensor end before it does");
        if (call->host->read_at(call->call, call->report, flat->data, at, runs, n * RUN) != MF_OK)
            return MF_FAILED;
        low += n;
        for (const uint8_t *run = runs; n > 0 && len > 0; n--, run += RUN) {
            uint64_t end = mf_number(run, 8);
            if (end <= offset / 4 || end > entry->n)
                return mf_malformed(call, flat->data, at, "a run ends before it begins, or behind its tensor");
            for (; len > 0 && offset / 4 < end; offset++, len--)
                *out++ = run[8 + offset % 4];
        }
    }
    return MF_OK;
}

/* Reads the index into `flat`. */
static int32_t read_index(struct Flat *flat, const struct MfCall *call) {
    const struct MfHost *host = call->host;
    uint32_t index = host->root(call->call);
    flat->len = host->len(call->call, index);
    if (flat->len > call->limits->header_bytes)
        return mf_fail(call->report, MF_ERROR_LIMIT, "an index is too long");
    flat->text = malloc(flat->len + 1);
    flat->entries = calloc(flat->len / sizeof "tensor a f32 raw 0 0" + 1, sizeof *flat->entries);
    if (!flat->text || !flat->entries)
        return mf_fail(call->report, MF_ERROR_LIMIT, "out of memory");
    flat->text[flat->len] = '\n';
    if (host->read_at(call->call, call->report, index, 0, flat->text, flat->len) != MF_OK)
        return MF_FAILED;
    if (flat->len < sizeof MAGIC - 1 || memcmp(flat->text, MAGIC, sizeof MAGIC - 1) != 0)
        return mf_malformed(call, index, 0, "the first line is not FLAT 1");
    flat->pos = sizeof MAGIC - 1;
    int is_data = mf_is(word(flat), "data");
    struct MfText data = word(flat);
    if (!is_data || !is_of(data, 255, '!', '~') || memchr(data.ptr, '/', data.len) || !line_ends(flat))
        return mf_malformed(call, index, flat->pos, "the second line names no data file");
    if (host->open(call->call, call->report, data, &flat->data) != MF_OK)
        return MF_FAILED;
    flat->data_len = host->len(call->call, flat->data);
    for (uint64_t start = flat->pos;; start = flat->pos) {
        struct MfText first = word(flat);
        if (mf_is(first, "end") && line_ends(flat) && flat->pos == flat->len)
            return MF_OK;
        const char *wrong = mf_is(first, "tensor") ? read_tensor(flat, &flat->entries[flat->n_entries++])
                                                   : "a line is neither a tensor nor the end";
        if (wrong)
            return mf_malformed(call, index, start, wrong);
    }
}

static uint32_t flat_identify(void *owner, const struct MfCall *call) {
    uint8_t found[sizeof MAGIC - 1];
    uint32_t root = call->host->root(call->call);
    (void)owner;
    if (call->host->len(call->call, root) < sizeof found ||
        call->host->read_at(call->call, call->report, root, 0, found, sizeof found) != MF_OK)
        return MF_VERDICT_NO;
    return memcmp(found, MAGIC, sizeof found) == 0 ? MF_VERDICT_CONTENT : MF_VERDICT_NO;
}

static int32_t flat_read(void *owner, const struct MfCall *call, struct MfSlice options, struct MfModel *model) {
    struct Flat *flat = calloc(1, sizeof *flat);
    (void)owner, (void)options; /* there are none */
    if (!flat)
        return mf_fail(call->report, MF_ERROR_LIMIT, "out of memory");
    if (read_index(flat, call) != MF_OK) {
        flat_release(flat);
        return MF_FAILED;
    }
    struct MfModel made = {.struct_size = sizeof made, .owner = flat, .release = flat_release, .read_at = flat_read_at};
    made.tensors = (struct MfSlice)MF_ARRAY(flat->entries, flat->n_entries);
    mf_give(model, &made, sizeof made);
    return MF_OK;
}

const struct MfPlugin *modelferry_flat_reader_v1(void) {
    static const struct MfReader reader = {
        .struct_size = sizeof reader,
        .info = MF_TEXT("{\"format\": \"flat\", \"about\": \"flat files of the C sample\", \"extensions\": [\".flat\"],"
                        " \"magic\": [{\"hex\": \"464c41542031\"}]}"),
        .identify = flat_identify, .read = flat_read,
    };
    static const struct MfPlugin plugin = {
        .struct_size = sizeof plugin, .id = MF_TEXT("flat-reader"), .version = MF_TEXT("1.0"),
        .readers = MF_ARRAY(&reader, 1),
    };
    return &plugin;
}
