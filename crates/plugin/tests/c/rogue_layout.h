/* Layouts that are none. Each begins as a good one: a file of eight zeros, then the tensor, then four zeros. */

static void layout_release(void *owner) {
    (void)owner;
    rogue_counts[3]++;
}

static int32_t rogue_lay_out(void *owner, const struct MfCall *call, const struct MfModel *model,
                             const struct MfRequest *request, struct MfLayout *layout) {
    static char how[64];
    static struct MfOutFile files[2];
    static struct MfPiece pieces[3];
    static struct MfText blobs[1], texts[1];
    static struct MfDigest digests[2];
    static struct MfPatch patches[2];
    static struct MfPromise promises[2];
    static const uint8_t odd[] = {'a', 0xff, 'b'};
    const struct MfText odd_text = {odd, sizeof odd};
    const uint64_t huge = UINT64_C(1) << 60;
    (void)owner, (void)model, (void)call;

    memset(how, 0, sizeof how);
    memcpy(how, request->file_name.ptr, request->file_name.len < 60 ? (size_t)request->file_name.len : 60);
    if (strstr(how, ".rogue")) *strstr(how, ".rogue") = 0;
    blobs[0] = (struct MfText)MF_TEXT("\0\0\0\0\0\0\0\0");
    texts[0] = (struct MfText)MF_TEXT("note");
    files[0] = (struct MfOutFile){request->file_name, 0, 3};
    files[1] = (struct MfOutFile){MF_TEXT("second"), 0, 1};
    pieces[0] = (struct MfPiece){.kind = MF_PIECE_BLOB, .len = 8};
    pieces[1] = (struct MfPiece){.kind = MF_PIECE_TENSOR, .len = 8};
    pieces[2] = (struct MfPiece){.kind = MF_PIECE_ZERO, .len = 4};
    digests[0] = (struct MfDigest){.algo = MF_DIGEST_CRC32, .start = 8, .len = 8};
    digests[1] = digests[0];
    patches[0] = (struct MfPatch){.form = MF_FORM_RAW, .at = 0};
    patches[1] = (struct MfPatch){.form = MF_FORM_RAW, .at = 16, .digest = 1};
    promises[0] = (struct MfPromise){.path = MF_TEXT("report.txt"), .at_most = 8};
    promises[1] = promises[0];
    struct MfLayout made = {.struct_size = sizeof made, .release = layout_release, .files = MF_ARRAY(files, 1),
                            .pieces = MF_ARRAY(pieces, 3), .blobs = MF_ARRAY(blobs, 1), .digests = MF_ARRAY(digests, 2),
                            .patches = MF_ARRAY(patches, 2)};
    if (strncmp(how, "report", 6) == 0 || strncmp(how, "promise", 7) == 0)
        made.promises = (struct MfSlice)MF_ARRAY(promises, 1);
    if (IS("silent")) return 3;
    if (IS("empty")) return MF_OK;
    if (IS("files_huge")) { made.files.len = huge; made.files.stride = 0; }
    if (IS("pieces_null")) made.pieces.ptr = NULL;
    if (IS("blobs_huge")) { made.blobs.len = huge; made.blobs.ptr = NULL; }
    if (IS("digests_huge")) { made.digests.len = huge; made.digests.stride = 0; }
    if (IS("patches_huge")) { made.patches.len = huge; made.patches.stride = huge; }
    if (IS("notes_huge")) { made.notes = (struct MfSlice)MF_ARRAY(texts, huge); made.notes.stride = 0; }
    if (IS("notes_odd")) { texts[0] = odd_text; made.notes = (struct MfSlice)MF_ARRAY(texts, 1); }
    if (IS("supersedes_odd")) { texts[0] = odd_text; made.supersedes = (struct MfSlice)MF_ARRAY(texts, 1); }
    if (IS("path_up")) files[0].path = mf_text("../x");
    if (IS("path_root")) files[0].path = mf_text("/x");
    if (IS("path_empty")) files[0].path = mf_text("");
    if (IS("path_dot")) files[0].path = mf_text("a/./b");
    if (IS("path_slash")) files[0].path = mf_text("a//b");
    if (IS("path_nul")) files[0].path = (struct MfText)MF_TEXT("a\0b");
    if (IS("path_odd")) files[0].path = odd_text;
    if (IS("path_null")) files[0].path.ptr = NULL;
    if (IS("path_twice")) { files[1].path = files[0].path; made.files.len = 2; }
    if (IS("path_folder")) { files[1].path = mf_text("path_folder.rogue/x"); made.files.len = 2; }
    if (IS("root")) made.root = 1;
    if (IS("root_far")) made.root = UINT64_MAX;
    if (IS("pieces_beyond")) files[0].n_pieces = 4;
    if (IS("pieces_overflow")) files[0].first_piece = UINT64_MAX;
    if (IS("piece_kind")) pieces[0].kind = 99;
    if (IS("piece_flags")) pieces[1].flags = 64;
    if (IS("blob_far")) pieces[0].idx = 7;
    if (IS("blob_beyond")) pieces[0].len = 9;
    if (IS("blob_overflow")) pieces[0].start = UINT64_MAX;
    if (IS("tensor_far")) pieces[1].idx = 7;
    if (IS("tensor_beyond")) pieces[1].start = 4;
    if (IS("tensor_split")) { pieces[1].start = 2; pieces[1].len = 4; }
    if (IS("tensor_overflow")) pieces[1].start = UINT64_MAX;
    if (IS("asset_far")) pieces[2].kind = MF_PIECE_ASSET;
    if (IS("zero_overflow")) pieces[2].len = UINT64_MAX;
    if (IS("zero_huge")) pieces[2].len = UINT64_MAX / 2;
    if (IS("digest_algo")) digests[0].algo = 99;
    if (IS("digest_file")) digests[0].file = 9;
    if (IS("digest_beyond")) digests[0].len = 99;
    if (IS("digest_overflow")) digests[0].start = UINT64_MAX;
    if (IS("patch_form")) patches[0].form = 99;
    if (IS("patch_file")) patches[0].file = 9;
    if (IS("patch_beyond")) patches[1].at = 17;
    if (IS("patch_far")) patches[1].at = UINT64_MAX;
    if (IS("patch_digest")) patches[0].digest = 2;
    if (IS("patch_own")) patches[0].at = 8;
    if (IS("patch_tensor")) { digests[0].len = 4; patches[0].at = 12; }
    if (IS("patch_twice")) patches[1].at = 2;
    if (IS("patch_across")) { patches[0].at = 6; digests[0].start = 12; digests[0].len = 4; }
    if (IS("patch_given")) blobs[0] = (struct MfText)MF_TEXT("\0\1\0\0\0\0\0\0");
    if (IS("promises_huge")) made.promises.len = huge;
    if (IS("promises_null")) made.promises.ptr = NULL;
    if (IS("promise_odd")) promises[0].path = odd_text;
    if (IS("promise_up")) promises[0].path = mf_text("../x");
    if (IS("promise_taken")) promises[0].path = files[0].path;
    if (IS("promise_twice")) made.promises.len = 2;
    if (IS("promise_folder")) promises[0].path = mf_text("promise_folder.rogue/x");
    if (IS("promise_long")) promises[0].at_most = (1 << 20) + 1;
    if (IS("promise_endless")) promises[0].at_most = UINT64_MAX;
    if (IS("promise_format")) promises[0].format = mf_text("nowhere");
    if (IS("promise_format_odd")) promises[0].format = odd_text;
    if (IS("promise_far")) { promises[0].format = mf_text("safetensors"); promises[0].first_file = UINT64_MAX; }
    if (IS("promise_beyond")) { promises[0].format = mf_text("safetensors"); promises[0].n_digests = 3; }
    if (IS("promise_other")) promises[0].format = mf_text("safetensors");
    if (IS("release_null")) { made.release = NULL; rogue_counts[2]--; }
    mf_give(layout, &made, sizeof made);
    rogue_counts[2]++;
    return MF_OK;
}

const struct MfWriter rogue_writer = {
    .struct_size = sizeof rogue_writer,
    .info = MF_TEXT("{\"format\": \"rogue\", \"about\": \"\", \"extensions\": [\".rogue\"], \"dtypes\": [\"f32\"],"
                    " \"max_rank\": 8}"),
    .layout = rogue_lay_out, .epilogue = rogue_report,
};
