/* Reports that are none. Each begins as a good one: what the layout has promised, a text of eight bytes. */

static void report_release(void *owner) {
    (void)owner;
    rogue_counts[5]++;
}

/* Asks the program for all that there is to ask. Gives how many of the questions it answered. */
static int32_t questions(const struct MfCall *call) {
    const struct MfHost *host = call->host;
    struct MfModel model = {.struct_size = sizeof model};
    struct MfLayout layout = {.struct_size = sizeof layout};
    struct MfRequest request = {.struct_size = sizeof request};
    struct MfQuery query = {.struct_size = sizeof query, .kind = MF_QUERY_ALL_ZERO};
    struct MfAnswer answer = {.struct_size = sizeof answer};
    uint8_t byte;
    uint32_t file;
    uint64_t needed;
    int32_t n = host->len(call->call, 0) != 0;
    n += host->name(call->call, 0, &byte, 1) != 0;
    n += host->open(call->call, NULL, mf_text("in.safetensors"), &file) == MF_OK;
    n += host->read_at(call->call, NULL, 0, 0, &byte, 1) == MF_OK;
    n += host->ask(call->call, NULL, &model, &query, &byte, 1, &answer) == MF_OK;
    n += host->read_model(call->call, NULL, 0, &model) == MF_OK;
    n += host->layout(call->call, NULL, mf_text("safetensors"), 0, &request, &layout) == MF_OK;
    n += host->link(call->call, NULL, 0, &byte, 1, &needed) == MF_OK;
    return n;
}

static int32_t rogue_report(void *owner, const struct MfCall *call, const struct MfOutcome *outcome,
                            struct MfEpilogue *epilogue) {
    static char how[64];
    static struct MfSmallFile files[2];
    static const uint8_t odd[] = {'a', 0xff, 'b'};
    const struct MfText odd_text = {odd, sizeof odd};
    const struct MfWritten *written = mf_at(&outcome->files, 0);
    const uint64_t huge = UINT64_C(1) << 60;
    (void)owner;

    memset(how, 0, sizeof how);
    memcpy(how, written->path.ptr, written->path.len < 60 ? (size_t)written->path.len : 60);
    if (strstr(how, ".rogue")) *strstr(how, ".rogue") = 0;
    files[0] = (struct MfSmallFile){MF_TEXT("report.txt"), MF_TEXT("12345678")};
    files[1] = files[0];
    struct MfEpilogue made = {.struct_size = sizeof made, .release = report_release, .files = MF_ARRAY(files, 1)};
    if (IS("report_silent")) return 3;
    if (IS("report_error")) return mf_fail(call->report, MF_ERROR_UNSUPPORTED, "there is no ink");
    if (IS("report_empty")) return MF_OK;
    if (IS("report_missing")) made.files.len = 0;
    if (IS("report_other")) files[0].path = mf_text("other.txt");
    if (IS("report_up")) files[0].path = mf_text("../report.txt");
    if (IS("report_path_odd")) files[0].path = odd_text;
    if (IS("report_path_null")) files[0].path.ptr = NULL;
    if (IS("report_long")) files[0].text = mf_text("123456789");
    if (IS("report_huge")) files[0].text.len = huge;
    if (IS("report_odd")) files[0].text = odd_text;
    if (IS("report_null")) files[0].text.ptr = NULL;
    if (IS("report_twice")) made.files.len = 2;
    if (IS("reports_many")) made.files.len = huge;
    if (IS("reports_null")) made.files.ptr = NULL;
    if (IS("reports_flat")) made.files.stride = 0;
    if (IS("report_loss") || IS("report_nonsense")) {
        struct MfLoss loss = {.struct_size = sizeof loss, .kind = IS("report_loss") ? MF_LOSS_ORDER : 99};
        loss.subject = mf_text("w");
        call->report->loss(call->report->context, &loss);
    }
    if (IS("report_asks") && questions(call) != 0)
        return mf_fail(call->report, MF_ERROR_INTERRUPTED, "there is something to ask");
    if (IS("report_release_null")) { made.release = NULL; rogue_counts[4]--; }
    mf_give(epilogue, &made, sizeof made);
    rogue_counts[4]++;
    return MF_OK;
}
