/* Models that are none. Each begins as a good one: a tensor `w` of two f32 in the last eight bytes of its file. */
#include <pthread.h>

#define HUGE (UINT64_C(1) << 60)

static uint64_t kept_call;
static const struct MfHost *kept_host;
static int kept_works; /* whether a call that is over could still be used */

static void model_release(void *owner) {
    (void)owner;
    rogue_counts[1]++;
}

static void *use_kept_call(void *unused) {
    uint8_t byte;
    uint32_t file;
    uint64_t needed;
    struct MfText name = MF_TEXT("x");
    struct MfModel model = {.struct_size = sizeof model};
    struct MfLayout layout = {.struct_size = sizeof layout};
    struct MfRequest request = {.struct_size = sizeof request};
    struct MfQuery query = {.struct_size = sizeof query, .kind = MF_QUERY_ALL_ZERO};
    struct MfAnswer answer = {.struct_size = sizeof answer};
    uint64_t call = kept_call;
    kept_host->forget(call, 0);
    kept_works |= kept_host->root(call) != MF_NO_FILE || kept_host->len(call, 0) != 0 ||
                  kept_host->name(call, 0, &byte, 1) != 0 || kept_host->open(call, NULL, name, &file) == MF_OK ||
                  kept_host->list(call, NULL, name, &byte, 1, &needed) == MF_OK ||
                  kept_host->read_at(call, NULL, 0, 0, &byte, 1) == MF_OK ||
                  kept_host->ask(call, NULL, &model, &query, &byte, 1, &answer) == MF_OK ||
                  kept_host->read_model(call, NULL, 0, &model) == MF_OK ||
                  kept_host->layout(call, NULL, name, 0, &request, &layout) == MF_OK;
    return unused;
}

/* The run is cancelled, and the plugin uses everything it has as if it did not know. */
static void go_on_after_cancel(const struct MfCall *call) {
    const struct MfHost *host = call->host;
    struct MfText name = MF_TEXT("x"), folder = MF_TEXT("");
    struct MfModel model = {.struct_size = sizeof model};
    uint8_t bytes[8];
    uint32_t file;
    uint64_t needed;
    rogue_meanwhile();
    for (int i = 0; i < 100; i++) {
        host->read_at(call->call, NULL, host->root(call->call), 0, bytes, sizeof bytes);
        host->open(call->call, NULL, name, &file);
        host->list(call->call, NULL, folder, bytes, sizeof bytes, &needed);
    }
    /* Once: it leads here again, until models are too deep inside of models. */
    if (host->read_model(call->call, NULL, 0, &model) == MF_OK && model.release)
        model.release(model.owner);
}

static int32_t model_read_at(void *owner, const struct MfCall *call, uint64_t source, uint64_t token, uint64_t offset,
                             uint8_t *out, uint64_t len) {
    const char *how = owner;
    (void)source, (void)token, (void)offset;
    if (IS("made_silently"))
        return MF_FAILED;
    if (IS("made_broken"))
        return mf_malformed(call, 0, 3, "the stream is broken");
    if (IS("made_overrun"))
        out[len] = 1; /* for the sanitizer to see */
    if (IS("made_after")) {
        pthread_t thread;
        use_kept_call(NULL);
        if (pthread_create(&thread, NULL, use_kept_call, NULL) == 0)
            pthread_join(thread, NULL);
        if (kept_works)
            return mf_fail(call->report, MF_ERROR_INTERRUPTED, "a call that is over still works");
    }
    if (IS("made_cancelled"))
        go_on_after_cancel(call);
    memset(out, 0, (size_t)len);
    return MF_OK;
}

/* Asks the program for nonsense. Gives how many of the questions it answered. */
static int32_t nonsense(const struct MfCall *call, struct MfModel *made) {
    const struct MfHost *host = call->host;
    struct MfText none = {NULL, 3}, long_text = {(const uint8_t *)"x", UINT64_MAX}, odd = MF_TEXT("\xff");
    struct MfQuery query = {.struct_size = sizeof query, .kind = 77};
    struct MfQuery far_query = {.struct_size = sizeof query, .kind = MF_QUERY_SMALL, .node = 99};
    struct MfQuery large = {.struct_size = sizeof query, .kind = MF_QUERY_SMALL, .len = HUGE};
    struct MfQuery tiny = {.struct_size = 3};
    struct MfAnswer answer = {.struct_size = sizeof answer}, small = {.struct_size = 2};
    struct MfModel model = {.struct_size = 1};
    struct MfLayout layout = {.struct_size = sizeof layout};
    struct MfRequest request = {.struct_size = sizeof request, .shards = 99};
    uint8_t byte;
    uint32_t file;
    host->forget(call->call, 99);
    int32_t n = host->len(call->call, 99) != 0 || host->len(call->call, MF_FOLDER) != 0;
    n += host->name(call->call, 99, NULL, 0) != 0;
    n += host->name(call->call, 0, NULL, 5) != 0;
    n += host->open(call->call, NULL, none, &file) == MF_OK;
    n += host->open(call->call, NULL, long_text, &file) == MF_OK;
    n += host->open(call->call, NULL, odd, &file) == MF_OK;
    n += host->open(call->call, NULL, mf_text("../x"), &file) == MF_OK;
    n += host->open(call->call, NULL, mf_text("in.rogue"), NULL) == MF_OK;
    n += host->list(call->call, NULL, mf_text(""), &byte, 1, NULL) == MF_OK;
    n += host->read_at(call->call, NULL, 99, 0, &byte, 1) == MF_OK;
    n += host->read_at(call->call, NULL, 0, UINT64_MAX, &byte, 1) == MF_OK;
    n += host->read_at(call->call, NULL, 0, 0, NULL, 1) == MF_OK;
    n += host->read_at(call->call, NULL, 0, 0, &byte, UINT64_MAX) == MF_OK;
    n += host->ask(call->call, NULL, NULL, &query, &byte, 1, &answer) == MF_OK;
    n += host->ask(call->call, NULL, made, NULL, &byte, 1, &answer) == MF_OK;
    n += host->ask(call->call, NULL, made, &query, &byte, 1, &answer) == MF_OK;
    n += host->ask(call->call, NULL, made, &far_query, &byte, 1, &answer) == MF_OK;
    n += host->ask(call->call, NULL, made, &large, &byte, 1, &answer) == MF_OK;
    n += host->ask(call->call, NULL, made, &tiny, &byte, 1, &answer) == MF_OK;
    n += host->ask(call->call, NULL, made, &far_query, &byte, 1, &small) == MF_OK;
    n += host->read_model(call->call, NULL, 99, &model) == MF_OK;
    n += host->read_model(call->call, NULL, 0, NULL) == MF_OK;
    n += host->layout(call->call, NULL, mf_text("safetensors"), 0, &request, &layout) == MF_OK;
    n += host->layout(call->call, NULL, mf_text("safetensors"), 0, NULL, &layout) == MF_OK;
    n += host->root(12345) != MF_NO_FILE;
    return n;
}

static int32_t rogue_read(void *owner, const struct MfCall *call, struct MfSlice options, struct MfModel *model) {
    static char how[256];
    static uint64_t shape[3], list[8];
    static struct MfTensor tensors[2];
    static struct MfNode nodes[2];
    static struct MfText blobs[1];
    static struct MfAsset assets[2];
    static struct MfClaim claims[1];
    static const uint8_t odd[] = {'a', 0xff, 'b'};
    const struct MfText odd_text = {odd, sizeof odd};
    (void)owner, (void)options;

    if (call->host->read_at(call->call, call->report, 0, 6, (uint8_t *)how, sizeof how) != MF_OK)
        return MF_FAILED;
    *strchr(how, '\n') = 0;
    if (IS("read_cancelled"))
        go_on_after_cancel(call);
    const uint64_t end = call->host->len(call->call, 0);
    shape[0] = 2, shape[1] = shape[2] = 0;
    tensors[0] = (struct MfTensor){.name = MF_TEXT("w"), .dtype = MF_DTYPE_F32, .shape = shape, .rank = 1,
                                   .data = {MF_DATA_FILE, 0, end - 8}};
    tensors[1] = tensors[0];
    nodes[0] = (struct MfNode){.op = MF_OP_REGION, .dtype = MF_DTYPE_U8, .n = 8, .q = end - 8, .list = list};
    nodes[1] = (struct MfNode){.op = MF_OP_DECODE, .dtype = MF_DTYPE_F32, .n = 2, .list = list};
    blobs[0] = (struct MfText)MF_TEXT("12345678");
    assets[0] = (struct MfAsset){MF_TEXT("notes.txt"), 4, {MF_DATA_FILE, 0, 0}};
    assets[1] = assets[0];
    claims[0] = (struct MfClaim){.node = 0};
    memset(list, 0, sizeof list);
    struct MfModel made = {.struct_size = sizeof made, .owner = how, .release = model_release, .read_at = model_read_at,
                           .tensors = MF_ARRAY(tensors, 1), .nodes = MF_ARRAY(nodes, 2), .blobs = MF_ARRAY(blobs, 1),
                           .assets = MF_ARRAY(assets, 0), .claims = MF_ARRAY(claims, 0)};
    struct MfError error = {.struct_size = sizeof error, .kind = MF_ERROR_UNSUPPORTED, .what = MF_TEXT("told")};
    struct MfLoss loss = {.struct_size = sizeof loss, .kind = MF_LOSS_ORDER};
    kept_call = call->call;
    kept_host = call->host;

    /* Ends. */
    if (IS("silent")) return 7;
    if (IS("minus")) return -1;
    if (IS("empty")) return MF_OK;
    if (IS("error_null") || IS("error_tiny")) {
        error.struct_size = 4;
        call->report->error(call->report->context, IS("error_null") ? NULL : &error);
        return MF_FAILED;
    }
    if (IS("error_kind")) { error.kind = 999; call->report->error(call->report->context, &error); return MF_FAILED; }
    if (IS("error_nowhere")) { call->report->error(NULL, &error); return MF_FAILED; }
    if (IS("error_odd")) {
        error.what = error.file = error.tensor = error.expected = error.found = error.hint = error.cause = odd_text;
        error.format = odd_text;
        call->report->error(call->report->context, &error);
        return MF_FAILED;
    }
    if (IS("error_long")) { error.what.len = UINT64_MAX; call->report->error(call->report->context, &error); return MF_FAILED; }
    if (IS("loss_kind")) { loss.kind = 999; call->report->loss(call->report->context, &loss); }
    if (IS("loss_null")) call->report->loss(call->report->context, NULL);
    if (IS("loss_odd")) {
        loss.subject = loss.renamed = loss.detail = odd_text;
        call->report->loss(call->report->context, &loss);
    }
    if (IS("nonsense")) {
        int32_t n = nonsense(call, &made);
        if (n != 0) return mf_fail(call->report, MF_ERROR_INTERRUPTED, "nonsense was answered");
    }
    /* Counts and places. */
    if (IS("tensors_null")) made.tensors.ptr = NULL;
    if (IS("tensors_huge")) made.tensors.len = HUGE;
    if (IS("tensors_flat")) { made.tensors.len = 5; made.tensors.stride = 0; }
    if (IS("tensors_wide")) { made.tensors.len = 5; made.tensors.stride = HUGE * 8; }
    if (IS("nodes_huge")) { made.nodes.len = HUGE; made.nodes.stride = 0; }
    if (IS("blobs_huge")) { made.blobs.len = HUGE; made.blobs.stride = 0; }
    if (IS("assets_huge")) { made.assets.len = HUGE; made.assets.ptr = NULL; }
    if (IS("claims_huge")) { made.claims.len = HUGE; made.claims.stride = 0; }
    if (IS("blob_null")) blobs[0].ptr = NULL;
    if (IS("blob_huge")) blobs[0].len = UINT64_MAX;
    if (IS("document_null")) made.document.len = 5;
    if (IS("name_null")) tensors[0].name.ptr = NULL;
    if (IS("name_huge")) tensors[0].name.len = HUGE;
    if (IS("name_odd")) tensors[0].name = odd_text;
    if (IS("name_twice")) made.tensors.len = 2;
    if (IS("shape_null")) tensors[0].shape = NULL;
    if (IS("shape_deep")) tensors[0].rank = HUGE;
    if (IS("shape_overflow")) { shape[0] = shape[1] = HUGE; tensors[0].rank = 2; }
    if (IS("shape_wide")) shape[0] = UINT64_MAX / 4 + 1;
    if (IS("shape_other")) shape[0] = 3;
    if (IS("dtype")) tensors[0].dtype = 999;
    if (IS("opaque")) tensors[0].dtype = MF_DTYPE_OPAQUE;
    if (IS("data_kind")) tensors[0].data.kind = 99;
    if (IS("data_beyond")) tensors[0].data.at = end - 7;
    if (IS("data_far")) tensors[0].data.at = UINT64_MAX;
    if (IS("data_file")) tensors[0].data.file = 77;
    if (IS("data_folder")) tensors[0].data.file = MF_FOLDER;
    if (IS("data_node")) tensors[0].data = (struct MfData){MF_DATA_NODE, 0, 2};
    if (IS("data_type")) tensors[0].data = (struct MfData){MF_DATA_NODE, 0, 0};
    if (strncmp(how, "made", 4) == 0) tensors[0].data.kind = MF_DATA_MADE;
    if (IS("made_null")) made.read_at = NULL;
    if (IS("release_null")) { made.release = NULL; rogue_counts[0]--; }
    /* Nodes. */
    if (strncmp(how, "node", 4) == 0) tensors[0].data = (struct MfData){MF_DATA_NODE, 0, 1};
    if (IS("node_op")) nodes[1].op = 99;
    if (IS("node_dtype")) nodes[1].dtype = 99;
    if (IS("node_flags")) nodes[1].flags = 64;
    if (IS("node_self")) nodes[1].of = 1;
    if (IS("node_forward")) nodes[0] = (struct MfNode){.op = MF_OP_VIEW, .of = 1, .n = 8};
    if (IS("node_none")) nodes[1].of = MF_NONE;
    if (IS("node_count")) nodes[0].n = 9;
    if (IS("node_other")) nodes[1].n = 3;
    if (IS("node_file")) nodes[0].p = UINT64_MAX;
    if (IS("node_list")) { nodes[1].list = NULL; nodes[1].list_len = 5; }
    if (IS("node_long")) nodes[1].list_len = HUGE;
    if (IS("node_inline")) { nodes[0].op = MF_OP_INLINE; nodes[0].p = 9; }
    if (IS("node_inflate")) { nodes[1].op = MF_OP_INFLATE; nodes[1].n = HUGE; }
    if (IS("node_varints")) nodes[1].op = MF_OP_VARINTS; /* of f32, which holds none that are there */
    if (IS("node_axis")) { nodes[1].op = MF_OP_VIEW; nodes[1].list_len = 3; }
    if (IS("node_view")) { nodes[1].op = MF_OP_VIEW; list[0] = 2; list[1] = 8; nodes[1].list_len = 2; }
    if (IS("node_reach")) {
        nodes[1].op = MF_OP_VIEW;
        list[0] = list[2] = list[4] = UINT64_MAX / 2;
        list[1] = list[3] = list[5] = UINT64_C(1) << 63;
        list[6] = 0;
        nodes[1].list_len = 8, nodes[1].n = 0;
    }
    if (IS("node_box")) { nodes[1].op = MF_OP_ASSEMBLE; nodes[1].p = 1; list[0] = 2; nodes[1].list_len = 3; }
    if (IS("node_rank")) { nodes[1].op = MF_OP_ASSEMBLE; nodes[1].p = UINT64_MAX; nodes[1].list_len = 3; }
    if (IS("node_uncovered")) {
        nodes[1].op = MF_OP_ASSEMBLE, nodes[1].p = 1, nodes[1].list_len = 4;
        list[0] = 9, list[1] = 0, list[2] = 0, list[3] = 8;
    }
    if (IS("node_unit")) { nodes[1].op = MF_OP_GATHER; nodes[1].list_len = 1; }
    if (IS("node_group")) { nodes[1].op = MF_OP_GATHER; nodes[1].p = 4; nodes[1].list_len = 1; list[0] = 2; }
    if (IS("node_function")) { nodes[1].op = MF_OP_MAP; nodes[1].p = 99; nodes[1].list_len = 1; }
    if (IS("node_arguments")) { nodes[1].op = MF_OP_MAP; nodes[1].p = MF_MAP_CAST; }
    if (IS("node_many")) { nodes[1].op = MF_OP_MAP; nodes[1].p = MF_MAP_CAST; nodes[1].list_len = 8; }
    if (IS("node_blocks")) nodes[1].op = MF_OP_DEQUANTIZE;
    /* Assets and claims. */
    if (strncmp(how, "asset_", 6) == 0) made.assets.len = 1;
    if (IS("asset_odd")) assets[0].name = odd_text;
    if (IS("asset_beyond")) assets[0].len = end + 1;
    if (IS("asset_twice")) made.assets.len = 2;
    if (IS("asset_made")) assets[0].data.kind = MF_DATA_MADE;
    if (IS("asset_other")) { assets[0].data = (struct MfData){MF_DATA_NODE, 0, 0}; assets[0].len = 5; }
    if (strncmp(how, "claim_", 6) == 0) made.claims.len = 1;
    if (IS("claim_far")) claims[0].node = 9;
    if (IS("claim_type")) claims[0].node = 1;
    /* Documents: what stands behind the name is the document. */
    if (how[0] == '{' || how[0] == '[') made.document = mf_text(how);
    if (IS("document_odd")) made.document = odd_text;
    static char deep[100001];
    if (IS("document_deep")) made.document = mf_text(memset(deep, '[', sizeof deep - 1));

    mf_give(model, &made, sizeof made);
    rogue_counts[0]++;
    return MF_OK;
}

static uint32_t rogue_identify(void *owner, const struct MfCall *call) {
    struct MfModel model = {.struct_size = sizeof model};
    char found[12];
    (void)owner;
    if (call->host->read_at(call->call, call->report, 0, 0, (uint8_t *)found, sizeof found) != MF_OK)
        return MF_VERDICT_NO;
    if (call->host->read_model(call->call, call->report, 0, &model) == MF_OK)
        return MF_VERDICT_NO; /* it must not be */
    return memcmp(found + 6, "verdic", 6) == 0 ? 99 : MF_VERDICT_CONTENT;
}

const struct MfReader rogue_reader = {
    .struct_size = sizeof rogue_reader,
    .info = MF_TEXT("{\"format\": \"rogue\", \"about\": \"\", \"extensions\": [\".rogue\"]}"),
    .identify = rogue_identify, .read = rogue_read,
};
