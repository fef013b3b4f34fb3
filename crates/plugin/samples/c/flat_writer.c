/* Writes flat files, which README.md describes: an index and a data file, all tensors raw. A plugin of modelferry in
 * plain C, to copy from. It writes no file: it says which bytes belong where, and the program writes them. */
#include "modelferry_plugin.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_RANK 8
#define ENDING ".flat"
#define NUMBER 21 /* characters of a number and the space before it, at most */

/* All that a layout points at: it stays until the program releases it. */
struct Flat {
    char *index, *index_name, *data_name, *sums_name;
    uint64_t len, data_len; /* of the index, of the data */
    struct MfText blob;
    struct MfPiece *pieces; /* the index, and each tensor */
    struct MfOutFile files[2];
    struct MfDigest digests[2];
    struct MfPromise sums;
};

static void flat_release(void *owner) {
    struct Flat *flat = owner;
    free(flat->index);
    free(flat->index_name);
    free(flat->data_name);
    free(flat->sums_name);
    free(flat->pieces);
    free(flat);
}

/* Tells that a tensor has no place in the format. */
static int32_t refuse(const struct MfCall *call, const struct MfTensor *tensor, const char *what) {
    struct MfError error = {.struct_size = sizeof error, .kind = MF_ERROR_TARGET};
    error.what = mf_text(what);
    error.tensor = tensor->name;
    call->report->error(call->report->context, &error);
    return MF_FAILED;
}

static int is_name(struct MfText name) {
    for (uint64_t i = 0; i < name.len; i++)
        if (name.ptr[i] < '!' || name.ptr[i] > '~')
            return 0;
    return name.len > 0 && name.len < 256;
}

/* Appends text to the index, for which there is room. */
static void add(struct Flat *flat, const void *text, uint64_t len) {
    memcpy(flat->index + flat->len, text, (size_t)len);
    flat->len += len;
}

static void add_text(struct Flat *flat, const char *text) {
    add(flat, text, strlen(text));
}

static void add_number(struct Flat *flat, uint64_t number) {
    char digits[NUMBER + 1];
    snprintf(digits, sizeof digits, " %" PRIu64, number);
    add_text(flat, digits);
}

/* Describes the tensors in the index, and makes a piece of each. */
static int32_t describe(struct Flat *flat, const struct MfCall *call, const struct MfModel *model) {
    add_text(flat, "FLAT 1\ndata ");
    add_text(flat, flat->data_name);
    add_text(flat, "\n");
    for (uint64_t i = 0; i < model->tensors.len; i++) {
        const struct MfTensor *tensor = mf_at(&model->tensors, i);
        if (!is_name(tensor->name))
            return refuse(call, tensor, "a name that is not 1 to 255 printable characters");
        add_text(flat, "tensor ");
        add(flat, tensor->name.ptr, tensor->name.len);
        /* What the format cannot hold the program has refused by what `info` says, or has converted. */
        add_text(flat, tensor->dtype == MF_DTYPE_F32 ? " f32 raw" : " i32 raw");
        add_number(flat, flat->data_len);
        add_number(flat, tensor->byte_len);
        for (uint64_t axis = 0; axis < tensor->rank; axis++)
            add_number(flat, tensor->shape[axis]);
        add_text(flat, "\n");
        flat->pieces[i + 1] = (struct MfPiece){.kind = MF_PIECE_TENSOR, .idx = i, .len = tensor->byte_len};
        flat->data_len += tensor->byte_len;
    }
    add_text(flat, "end\n");
    return MF_OK;
}

/* A new text of two. */
static char *joined(struct MfText first, const char *second) {
    char *text = malloc(first.len + strlen(second) + 1);
    if (text) {
        memcpy(text, first.ptr, (size_t)first.len);
        strcpy(text + first.len, second);
    }
    return text;
}

/* Fills `flat`, and the layout that points at it. */
static int32_t lay_out(struct Flat *flat, const struct MfCall *call, const struct MfModel *model,
                       const struct MfRequest *request, struct MfLayout *layout) {
    struct MfText name = request->file_name, stem = name;
    if (stem.len > sizeof ENDING - 1 && memcmp(stem.ptr + stem.len - (sizeof ENDING - 1), ENDING, sizeof ENDING - 1) == 0)
        stem.len -= sizeof ENDING - 1;
    /* The most that the index can need: each tensor's line, and the lines around them. */
    uint64_t room = name.len + 64;
    for (uint64_t i = 0; i < model->tensors.len; i++) {
        const struct MfTensor *tensor = mf_at(&model->tensors, i);
        if (tensor->rank > MOST_RANK)
            return refuse(call, tensor, "more than 8 extents");
        room += 32 + tensor->name.len + NUMBER * (tensor->rank + 2);
    }
    flat->index = malloc(room);
    flat->index_name = joined(name, "");
    flat->data_name = joined(stem, ".flatdata");
    flat->sums_name = joined(name, ".sha256");
    flat->pieces = calloc(model->tensors.len + 1, sizeof *flat->pieces);
    if (!flat->index || !flat->index_name || !flat->data_name || !flat->sums_name || !flat->pieces)
        return mf_fail(call->report, MF_ERROR_LIMIT, "out of memory");
    if (!is_name(mf_text(flat->data_name)))
        return mf_fail(call->report, MF_ERROR_TARGET, "the name of the output is not made of printable characters");
    if (describe(flat, call, model) != MF_OK)
        return MF_FAILED;
    flat->blob = (struct MfText){(const uint8_t *)flat->index, flat->len};
    flat->pieces[0] = (struct MfPiece){.kind = MF_PIECE_BLOB, .idx = 0, .len = flat->len};
    flat->files[0] = (struct MfOutFile){.path = mf_text(flat->index_name), .first_piece = 0, .n_pieces = 1};
    flat->files[1] = (struct MfOutFile){.path = mf_text(flat->data_name), .first_piece = 1, .n_pieces = model->tensors.len};
    layout->files = (struct MfSlice)MF_ARRAY(flat->files, 2);
    layout->pieces = (struct MfSlice)MF_ARRAY(flat->pieces, model->tensors.len + 1);
    layout->blobs = (struct MfSlice)MF_ARRAY(&flat->blob, 1);
    layout->root = 0; /* the index stands for the whole */
    flat->sums = (struct MfPromise){.path = mf_text(flat->sums_name), .at_most = 1024};
    layout->supersedes = (struct MfSlice)MF_ARRAY(&flat->sums.path, 1); /* checksums of an earlier run would be wrong */
    for (uint64_t i = 0; i < request->options.len; i++) {
        const struct MfOption *option = mf_at(&request->options, i);
        if (!mf_is(option->name, "checksums") || !mf_is(option->value, "true"))
            continue;
        /* The program takes the digests, and `flat_epilogue` makes the file that is promised here of them. */
        flat->digests[0] = (struct MfDigest){.algo = MF_DIGEST_SHA256, .file = 0, .len = flat->len};
        flat->digests[1] = (struct MfDigest){.algo = MF_DIGEST_SHA256, .file = 1, .len = flat->data_len};
        layout->digests = (struct MfSlice)MF_ARRAY(flat->digests, 2);
        layout->promises = (struct MfSlice)MF_ARRAY(&flat->sums, 1);
    }
    return MF_OK;
}

static int32_t flat_layout(void *owner, const struct MfCall *call, const struct MfModel *model,
                           const struct MfRequest *request, struct MfLayout *layout) {
    struct Flat *flat = calloc(1, sizeof *flat);
    (void)owner;
    if (!flat)
        return mf_fail(call->report, MF_ERROR_LIMIT, "out of memory");
    struct MfLayout made = {.struct_size = sizeof made, .owner = flat, .release = flat_release};
    if (lay_out(flat, call, model, request, &made) != MF_OK) {
        flat_release(flat);
        return MF_FAILED;
    }
    mf_give(layout, &made, sizeof made);
    return MF_OK;
}

/* Makes the promised file: a line for each digest, as sha256sum has them. */
static int32_t flat_epilogue(void *owner, const struct MfCall *call, const struct MfOutcome *outcome,
                             struct MfEpilogue *epilogue) {
    const struct MfPromise *sums = mf_at(&outcome->promises, 0);
    struct MfSmallFile *file = malloc(sizeof *file + sums->path.len + sums->at_most); /* and its name, and its text */
    (void)owner;
    if (!file)
        return mf_fail(call->report, MF_ERROR_LIMIT, "out of memory");
    char *name = memcpy(file + 1, sums->path.ptr, sums->path.len), *text = name + sums->path.len, *end = text;
    for (uint64_t i = 0; i < outcome->digests.len; i++) {
        const struct MfDigested *digest = mf_at(&outcome->digests, i);
        const struct MfWritten *written = mf_at(&outcome->files, digest->file);
        for (uint64_t at = 0; at < digest->value.len; at++)
            end += sprintf(end, "%02x", digest->value.ptr[at]);
        end += sprintf(end, "  %.*s\n", (int)written->path.len, (const char *)written->path.ptr);
    }
    *file = (struct MfSmallFile){.path = {(const uint8_t *)name, sums->path.len},
                                 .text = {(const uint8_t *)text, (uint64_t)(end - text)}};
    struct MfEpilogue made = {.struct_size = sizeof made, .owner = file, .release = free, .files = MF_ARRAY(file, 1)};
    mf_give(epilogue, &made, sizeof made);
    return MF_OK;
}

const struct MfPlugin *modelferry_flat_writer_v1(void) {
    static const struct MfWriter writer = {
        .struct_size = sizeof writer,
        .info = MF_TEXT("{\"format\": \"flat\", \"about\": \"flat files of the C sample\", \"extensions\": [\".flat\"],"
                        " \"dtypes\": [\"f32\", \"i32\"], \"max_rank\": 8, \"options\": [{\"name\": \"checksums\","
                        " \"kind\": \"bool\", \"help\": \"Write the SHA-256 of both files beside them\"}]}"),
        .layout = flat_layout, .epilogue = flat_epilogue,
    };
    static const struct MfPlugin plugin = {
        .struct_size = sizeof plugin, .id = MF_TEXT("flat-writer"), .version = MF_TEXT("1.0"),
        .writers = MF_ARRAY(&writer, 1),
    };
    return &plugin;
}
