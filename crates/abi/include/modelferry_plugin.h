/* The boundary between modelferry and its plugins, version 1.0.
 *
 * Generated from crates/abi; `MODELFERRY_UPDATE=1 cargo test -p modelferry-abi --test header` makes it anew.
 *
 * A library exports one function, `const struct MfPlugin *modelferry_ID_v1(void)`, with `-` in its id as `_`, and has
 * a manifest beside it. docs/plugins.md is the guide, docs/plugin-abi.md says the rest.
 *
 * Rules. Numbers have fixed widths. A struct that is passed by pointer begins with `struct_size`, the bytes that its
 * maker knows: set it. Arrays travel as MfSlice, whose stride is the size of an element as its maker knows it: step by
 * it. Both may be longer or shorter than here; MfText, MfSlice and MfData never are. Initialize structs by the names of
 * their fields, so that what is not named is zero. Text is UTF-8 with a length, not ended by a NUL. What one side
 * allocates the same side frees, when the other calls `release`. Nothing may leave a function but its return: no
 * exception, no longjmp. A function that returns MF_FAILED has told `report->error` why, and has given nothing.
 *
 * What the program passes lives until the function returns: calls, reports, limits, models, requests. The tables of
 * MfHost live as long as the process. A call's number may be used from any thread until then, its report only from the
 * thread that was called.
 */

#ifndef MODELFERRY_PLUGIN_H
#define MODELFERRY_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct MfText;
struct MfSlice;
struct MfError;
struct MfLoss;
struct MfReport;
struct MfData;
struct MfTensor;
struct MfNode;
struct MfAsset;
struct MfClaim;
struct MfModel;
struct MfOutFile;
struct MfPiece;
struct MfDigest;
struct MfPatch;
struct MfLink;
struct MfLayout;
struct MfPromise;
struct MfWritten;
struct MfDigested;
struct MfSeen;
struct MfOutcome;
struct MfSmallFile;
struct MfEpilogue;
struct MfOption;
struct MfRequest;
struct MfQuery;
struct MfAnswer;
struct MfLimits;
struct MfHost;
struct MfCall;
struct MfReader;
struct MfWriter;
struct MfPlugin;

// Major version: it stands in the name of the entry.
#define MF_ABI_MAJOR 1

// Minor version: what was added since.
#define MF_ABI_MINOR 0

// All went well.
#define MF_OK 0

// It did not, and the report was told why.
#define MF_FAILED 1

// No position, no offset.
#define MF_NONE UINT64_MAX

// No file.
#define MF_NO_FILE (UINT32_MAX - 1)

// The folder itself, where a folder is what the user named.
#define MF_FOLDER UINT32_MAX

// Not this format.
#define MF_VERDICT_NO 0

// The name fits, the content says nothing either way.
#define MF_VERDICT_NAME 1

// The content fits.
#define MF_VERDICT_CONTENT 2

// Bytes of an input file.
#define MF_DATA_FILE 1

// A node.
#define MF_DATA_NODE 2

// Bytes that the plugin makes.
#define MF_DATA_MADE 3

// To a writer: bytes that are computed, or moved.
#define MF_DATA_UNSEEN 4

// `n` bytes of file `p` from byte `q` on.
#define MF_OP_REGION 1

// The bytes of blob `p`.
#define MF_OP_INLINE 2

// The `n` inflated bytes (RFC 1951) of `of`.
#define MF_OP_INFLATE 3

// `n` integers from the protobuf varints in `of`; `p` is the tag before each, or `MF_NONE`. `MF_FLAG_ZIGZAG`.
#define MF_OP_VARINTS 4

// `n` bytes that source `q` makes, under the token `p`; `list` is the preferred multiple of bytes, empty for a source
// that is read in order only.
#define MF_OP_MADE 5

// `n` items out of the bytes `of`. `MF_FLAG_BIG_ENDIAN`, `MF_FLAG_HIGH_BITS_FIRST`.
#define MF_OP_DECODE 6

// A strided selection of `of` from item `p` on; `list` is the extent and the stride (two's complement) of each axis.
#define MF_OP_VIEW 7

// A box put together from parts; `p` is the rank; `list` is the shape, then of each part its node, its first index on
// each axis, its extent on each axis.
#define MF_OP_ASSEMBLE 8

// Groups of `p` items of `of`; `list` says which.
#define MF_OP_GATHER 9

// A function of items: `p` is one of `MF_MAP_…`, `q` the bits of its constant, `list` its arguments.
#define MF_OP_MAP 10

// The f32 elements of the blocks `of`; `p` is the number of elements in a row.
#define MF_OP_DEQUANTIZE 11

#define MF_FLAG_BIG_ENDIAN 1

#define MF_FLAG_HIGH_BITS_FIRST 2

#define MF_FLAG_ZIGZAG 4

// To the node's type, rounded once to nearest even.
#define MF_MAP_CAST 1

// `-x`.
#define MF_MAP_NEG 2

// The complex conjugate.
#define MF_MAP_CONJ 3

// `x + c`.
#define MF_MAP_ADD 4

// `x * c`.
#define MF_MAP_MUL 5

// `-exp(x)`.
#define MF_MAP_NEG_EXP 6

// `(q - z) * s` of `q, z, s`.
#define MF_MAP_SUB_MUL 7

// `q * s + z` of `q, s, z`.
#define MF_MAP_MUL_ADD 8

// Bytes of a blob.
#define MF_PIECE_BLOB 1

// Packed bytes of a tensor.
#define MF_PIECE_TENSOR 2

// Bytes of an asset.
#define MF_PIECE_ASSET 3

// Zeros.
#define MF_PIECE_ZERO 4

#define MF_DIGEST_CRC32 1

#define MF_DIGEST_SHA256 2

// The bytes of the digest; a CRC-32 as a little-endian number.
#define MF_FORM_RAW 1

// Lower-case hexadecimal.
#define MF_FORM_HEX 2

// One file.
#define MF_SHARDS_ONE 0

// Files of at most so many bytes of tensors.
#define MF_SHARDS_MAX 1

// As they were in the source.
#define MF_SHARDS_KEEP 2

// Are two sequences the same bytes?
#define MF_QUERY_EQUAL 1

// Some items of a sequence, as bytes.
#define MF_QUERY_SMALL 2

// Are all its bytes zero?
#define MF_QUERY_ALL_ZERO 3

// The largest magnitude.
#define MF_QUERY_ABS_MAX 4

// How many items are not zero.
#define MF_QUERY_NNZ 5

#define MF_ERROR_DIFFERENCE 1

#define MF_ERROR_USAGE 2

#define MF_ERROR_EXISTS 3

#define MF_ERROR_AMBIGUOUS 4

#define MF_ERROR_MALFORMED 5

#define MF_ERROR_UNSUPPORTED 6

#define MF_ERROR_TARGET 7

#define MF_ERROR_LIMIT 8

#define MF_ERROR_IO 9

#define MF_ERROR_PLUGIN 10

#define MF_ERROR_INTERRUPTED 11

#define MF_LOSS_DTYPE 1

#define MF_LOSS_OVERFLOW 2

#define MF_LOSS_UNDERFLOW 3

#define MF_LOSS_NON_FINITE 4

#define MF_LOSS_FALLBACK 5

#define MF_LOSS_TENSOR 6

#define MF_LOSS_UNMATCHED 17

#define MF_LOSS_NAME 7

#define MF_LOSS_TIE_COPIED 8

#define MF_LOSS_TIE_DROPPED 9

#define MF_LOSS_ORDER 10

#define MF_LOSS_METADATA 11

#define MF_LOSS_STATE 12

#define MF_LOSS_TREE 13

#define MF_LOSS_GRAPH 14

#define MF_LOSS_ASSET 15

#define MF_LOSS_LAYOUT 16

// Blocks that only the format knows: `block_elements` and `block_bytes` say how large they are.
#define MF_DTYPE_OPAQUE 0

#define MF_DTYPE_BOOL 1

#define MF_DTYPE_I2 2

#define MF_DTYPE_I4 3

#define MF_DTYPE_I8 4

#define MF_DTYPE_I16 5

#define MF_DTYPE_I32 6

#define MF_DTYPE_I64 7

#define MF_DTYPE_U2 8

#define MF_DTYPE_U4 9

#define MF_DTYPE_U8 10

#define MF_DTYPE_U16 11

#define MF_DTYPE_U32 12

#define MF_DTYPE_U64 13

#define MF_DTYPE_F16 14

#define MF_DTYPE_BF16 15

#define MF_DTYPE_F32 16

#define MF_DTYPE_F64 17

#define MF_DTYPE_F8_E4M3 18

#define MF_DTYPE_F8_E5M2 19

#define MF_DTYPE_F8_E4M3FNUZ 20

#define MF_DTYPE_F8_E5M2FNUZ 21

#define MF_DTYPE_F8_E8M0 22

#define MF_DTYPE_F8_E3M4 23

#define MF_DTYPE_F8_E4M3IEEE 24

#define MF_DTYPE_F8_E4M3B11FNUZ 25

#define MF_DTYPE_F6_E2M3 26

#define MF_DTYPE_F6_E3M2 27

#define MF_DTYPE_F4_E2M1 28

#define MF_DTYPE_C32 29

#define MF_DTYPE_C64 30

#define MF_DTYPE_C128 31

#define MF_DTYPE_Q1_0 32

#define MF_DTYPE_Q2_0 33

#define MF_DTYPE_Q4_0 34

#define MF_DTYPE_Q4_1 35

#define MF_DTYPE_Q5_0 36

#define MF_DTYPE_Q5_1 37

#define MF_DTYPE_Q8_0 38

#define MF_DTYPE_Q8_1 39

#define MF_DTYPE_Q2_K 40

#define MF_DTYPE_Q3_K 41

#define MF_DTYPE_Q4_K 42

#define MF_DTYPE_Q5_K 43

#define MF_DTYPE_Q6_K 44

#define MF_DTYPE_Q8_K 45

#define MF_DTYPE_IQ1_S 46

#define MF_DTYPE_IQ1_M 47

#define MF_DTYPE_IQ2_XXS 48

#define MF_DTYPE_IQ2_XS 49

#define MF_DTYPE_IQ2_S 50

#define MF_DTYPE_IQ3_XXS 51

#define MF_DTYPE_IQ3_S 52

#define MF_DTYPE_IQ4_NL 53

#define MF_DTYPE_IQ4_XS 54

#define MF_DTYPE_TQ1_0 55

#define MF_DTYPE_TQ2_0 56

#define MF_DTYPE_MXFP4 57

#define MF_DTYPE_NVFP4 58

// Text, or bytes where a field says so. Where a text may be absent, a null pointer says that it is.
struct MfText {
    // First byte.
    const uint8_t *ptr;
    // Number of bytes.
    uint64_t len;
};

// An array whose elements are as large as its maker knows them.
struct MfSlice {
    // First element.
    const void *ptr;
    // Number of elements.
    uint64_t len;
    // Bytes from one element to the next.
    uint64_t stride;
};

// An error: whose fault it is, where, what was expected there and what was found.
struct MfError {
    // Bytes of this struct.
    uint64_t struct_size;
    // One of `MF_ERROR_…`.
    uint32_t kind;
    // 1 if the byte offset is known.
    uint32_t has_offset;
    // What is wrong, without its place: no capital, no full stop.
    struct MfText what;
    // The format, where it is not the plugin's own.
    struct MfText format;
    // The file, by its name.
    struct MfText file;
    // The tensor.
    struct MfText tensor;
    // What should have been there.
    struct MfText expected;
    // What was there.
    struct MfText found;
    // What the user can do about it.
    struct MfText hint;
    // The cause in another's words: the system's.
    struct MfText cause;
    // The byte offset in the file.
    uint64_t offset;
};

// Something that a conversion drops, rounds, renames or lays out anew.
struct MfLoss {
    // Bytes of this struct.
    uint64_t struct_size;
    // One of `MF_LOSS_…`.
    uint32_t kind;
    // 1 if an option of the user's asked for exactly this.
    uint32_t is_asked;
    // Which tensor or key.
    struct MfText subject;
    // Under which name it is written, where that is another.
    struct MfText renamed;
    // What became of it, for a person.
    struct MfText detail;
    // Bytes: axis `k` of what is written is axis `axes[k]` of the source's tensor. Empty if they are as they were.
    struct MfText axes;
};

// Where errors and losses are told. Texts are copied before the call returns.
struct MfReport {
    // Bytes of this struct.
    uint64_t struct_size;
    // To be handed back.
    void *context;
    // Tells why the call that is under way will return `MF_FAILED`. The last one told counts.
    void (*error)(void *context, const struct MfError *error);
    // Tells of a loss.
    void (*loss)(void *context, const struct MfLoss *loss);
};

// Where bytes are.
struct MfData {
    // One of `MF_DATA_…`.
    uint32_t kind;
    // With `MF_DATA_FILE`, the file; with `MF_DATA_UNSEEN`, a file that they come from, or `MF_NO_FILE`.
    uint32_t file;
    // With `MF_DATA_FILE`, the first byte; with `MF_DATA_NODE`, the position in `nodes`; with `MF_DATA_MADE`, what
    // `read_at` is given as `token`.
    uint64_t at;
};

// A named array.
struct MfTensor {
    // Unique name.
    struct MfText name;
    // One of `MF_DTYPE_…`.
    uint32_t dtype;
    // With `MF_DTYPE_OPAQUE`, elements in a block.
    uint16_t block_elements;
    // With `MF_DTYPE_OPAQUE`, bytes of a block.
    uint16_t block_bytes;
    // Extents in elements, row-major.
    const uint64_t *shape;
    // Number of extents; 0 for a scalar.
    uint64_t rank;
    // Bytes of the elements densely packed. Told to writers; a reader may leave it 0.
    uint64_t byte_len;
    // The bytes: little-endian and row-major, unless a node says otherwise.
    struct MfData data;
};

// How a sequence of items is made of others: `MF_OP_…` says which field means what.
struct MfNode {
    // One of `MF_OP_…`.
    uint32_t op;
    // Type of the items, one of `MF_DTYPE_…`.
    uint32_t dtype;
    // With `MF_DTYPE_OPAQUE`, elements in a block.
    uint16_t block_elements;
    // With `MF_DTYPE_OPAQUE`, bytes of a block.
    uint16_t block_bytes;
    // Choices of the operation: `MF_FLAG_…`.
    uint32_t flags;
    // Number of items.
    uint64_t n;
    // The sequence that it is made of, by its position: an earlier one.
    uint64_t of;
    // First number of the operation.
    uint64_t p;
    // Second number of the operation.
    uint64_t q;
    // Further numbers of the operation.
    const uint64_t *list;
    // How many there are.
    uint64_t list_len;
};

// A file that belongs to a model and holds no weights.
struct MfAsset {
    // Path relative to the model's folder, `/` between folders.
    struct MfText name;
    // Length in bytes.
    uint64_t len;
    // Its bytes: a part of a file, or a node that is one or is held in a blob.
    struct MfData data;
};

// A CRC-32 that a source states about bytes of its own.
struct MfClaim {
    // A sequence of bytes, by its position in `nodes`.
    uint64_t node;
    // The CRC-32 (IEEE 802.3).
    uint32_t crc32;
    // 1 if the description itself rests on these bytes.
    uint32_t is_header;
};

// A question about payload.
struct MfQuery {
    // Bytes of this struct.
    uint64_t struct_size;
    // One of `MF_QUERY_…`.
    uint32_t kind;
    // Zero.
    uint32_t reserved;
    // The sequence, by its position in the nodes that come with the question.
    uint64_t node;
    // With `MF_QUERY_EQUAL`, the other one.
    uint64_t other;
    // With `MF_QUERY_SMALL`, the first item.
    uint64_t at;
    // With `MF_QUERY_SMALL`, the number of items.
    uint64_t len;
};

// The answer to an `MfQuery`.
struct MfAnswer {
    // Bytes of this struct. Set by who asks.
    uint64_t struct_size;
    // To `MF_QUERY_EQUAL` and `MF_QUERY_ALL_ZERO` 0 or 1, to `MF_QUERY_NNZ` the count, to `MF_QUERY_SMALL` the number
    // of bytes, which are in `out` if they are not more than there is room for.
    uint64_t count;
    // To `MF_QUERY_ABS_MAX`.
    double number;
};

// What a writer is asked for besides the model.
struct MfRequest {
    // Bytes of this struct.
    uint64_t struct_size;
    // Name of the output file, without folder; for a folder, the folder's own name.
    struct MfText file_name;
    // Format of the weights in a folder; empty for a file.
    struct MfText weights;
    // `MfOption`.
    struct MfSlice options;
    // One of `MF_SHARDS_…`.
    uint32_t shards;
    // Zero.
    uint32_t reserved;
    // With `MF_SHARDS_MAX`, the most bytes of tensors in a file.
    uint64_t shard_bytes;
};

// Where every output byte comes from.
struct MfLayout {
    // Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    uint64_t struct_size;
    // Its maker's own.
    void *owner;
    // Frees what the layout points at. Called once; may be null.
    void (*release)(void *owner);
    // `MfOutFile`.
    struct MfSlice files;
    // `MfPiece`, of all files.
    struct MfSlice pieces;
    // `MfText`, of bytes.
    struct MfSlice blobs;
    // `MfDigest`.
    struct MfSlice digests;
    // `MfPatch`.
    struct MfSlice patches;
    // Position of the file that stands for the whole.
    uint64_t root;
    // `MfText`: names of files that would be taken for this model if they stayed beside the output.
    struct MfSlice supersedes;
    // `MfText`: what a person should know of the output although nothing is lost.
    struct MfSlice notes;
    // `MfLink`.
    struct MfSlice links;
    // `MfPromise`: files that report on the run. Who takes in a layout takes these along.
    struct MfSlice promises;
};

// What the program offers a plugin. It lives as long as the process.
//
// `call` is `MfCall.call`. Functions that can fail return `MF_OK` or `MF_FAILED` and tell `report` why; given the
// report of the call itself, their error is the call's.
struct MfHost {
    // Bytes of this struct.
    uint64_t struct_size;
    // The minor version of the program's side.
    uint32_t abi_minor;
    // Zero.
    uint32_t reserved;
    // The file that the user named; `MF_FOLDER` where that is a folder.
    uint32_t (*root)(uint64_t call);
    // The length of a file in bytes.
    uint64_t (*len)(uint64_t call, uint32_t file);
    // The name of a file relative to the model's folder. Fills at most `room` bytes of `out` and returns how many there
    // are.
    uint64_t (*name)(uint64_t call, uint32_t file, uint8_t *out, uint64_t room);
    // Finds a file by its name relative to the model's folder.
    int32_t (*open)(uint64_t call, const struct MfReport *report, struct MfText name, uint32_t *file);
    // Says that a file that was opened is not part of the model after all.
    void (*forget)(uint64_t call, uint32_t file);
    // What is in a folder of the model's folder, which is the empty name: names, each ended by a NUL, folders with a
    // `/` before it. Fills at most `room` bytes of `out`; `needed` is how many there are.
    int32_t (*list)(uint64_t call,
                    const struct MfReport *report,
                    struct MfText folder,
                    uint8_t *out,
                    uint64_t room,
                    uint64_t *needed);
    // Fills `out` with `len` bytes of a file from `offset` on.
    int32_t (*read_at)(uint64_t call,
                       const struct MfReport *report,
                       uint32_t file,
                       uint64_t offset,
                       uint8_t *out,
                       uint64_t len);
    // Answers a question about payload. Of `model` the nodes, blobs and `read_at` are looked at; it stays the caller's.
    int32_t (*ask)(uint64_t call,
                   const struct MfReport *report,
                   const struct MfModel *model,
                   const struct MfQuery *query,
                   uint8_t *out,
                   uint64_t room,
                   struct MfAnswer *answer);
    // Reads the model that a file is the root of: a model inside a model. Its nodes speak of the same files. To be
    // released by the caller.
    int32_t (*read_model)(uint64_t call, const struct MfReport *report, uint32_t root, struct MfModel *model);
    // Lays the tensors of the model that the call is about out as files of another format. To be released by the
    // caller. With `is_weights` 1 its config and assets are left out, for the caller writes them.
    int32_t (*layout)(uint64_t call,
                      const struct MfReport *report,
                      struct MfText format,
                      uint32_t is_weights,
                      const struct MfRequest *request,
                      struct MfLayout *layout);
    // The path under which the output can speak of a file of the source, relative to the output's folder. Fills at most
    // `room` bytes of `out`; `needed` is how many there are.
    int32_t (*link)(uint64_t call,
                    const struct MfReport *report,
                    uint32_t file,
                    uint8_t *out,
                    uint64_t room,
                    uint64_t *needed);
};

// What a file may ask of a reader at most. Reaching one is an error of kind `MF_ERROR_LIMIT`.
struct MfLimits {
    // Bytes of this struct.
    uint64_t struct_size;
    // Bytes of one header, directory or index document.
    uint64_t header_bytes;
    // Tensors in one model.
    uint64_t tensors;
    // Files one model is made of.
    uint64_t files;
    // Dimensions of one tensor.
    uint64_t rank;
    // Bytes of one tensor name.
    uint64_t name_bytes;
    // Nesting of documents.
    uint64_t depth;
    // Objects of one document of nested values.
    uint64_t objects;
    // Instructions of one pickle.
    uint64_t opcodes;
    // Nodes of one model.
    uint64_t nodes;
    // Bytes of payload held in blobs.
    uint64_t inline_bytes;
    // Bytes of tensors that repeat elements of small storages.
    uint64_t repeated_bytes;
    // Ratio of inflated to deflated bytes.
    uint64_t inflate_ratio;
    // Bytes read for each byte written.
    uint64_t read_amplification;
};

// One call of a plugin: what it is about.
struct MfCall {
    // Bytes of this struct.
    uint64_t struct_size;
    // To be handed to the functions of `host`. Means nothing once the call has returned.
    uint64_t call;
    // What the program offers.
    const struct MfHost *host;
    // Where errors and losses of this call are told.
    const struct MfReport *report;
    // The limits in force.
    const struct MfLimits *limits;
};

// A model, described: what a reader makes and a writer takes. A writer is given no nodes.
struct MfModel {
    // Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    uint64_t struct_size;
    // Its maker's own.
    void *owner;
    // Frees what the model points at. Called once, when nothing of it is needed any more; may be null.
    void (*release)(void *owner);
    // Fills `out` with bytes that only the maker can make: `len` of them from `offset` on of the sequence `token` of
    // `source` (0 unless a node says otherwise), out of the files that the model was read from, which `call` gives.
    // Called from several threads, and twice for the same range.
    int32_t (*read_at)(void *owner,
                       const struct MfCall *call,
                       uint64_t source,
                       uint64_t token,
                       uint64_t offset,
                       uint8_t *out,
                       uint64_t len);
    // `MfTensor`, in file order.
    struct MfSlice tensors;
    // `MfNode`, each made of earlier ones.
    struct MfSlice nodes;
    // `MfText`, of bytes: what nodes and the document name by position.
    struct MfSlice blobs;
    // `MfAsset`.
    struct MfSlice assets;
    // `MfClaim`.
    struct MfSlice claims;
    // The rest as JSON: ties, metadata, config, nested values, a graph. Empty if there is none.
    // docs/plugin-abi.md has its schema.
    struct MfText document;
};

// An output file: its pieces in order.
struct MfOutFile {
    // Relative path, `/` between folders.
    struct MfText path;
    // Position of its first piece in `pieces`.
    uint64_t first_piece;
    // Number of its pieces.
    uint64_t n_pieces;
};

// A run of output bytes.
struct MfPiece {
    // One of `MF_PIECE_…`.
    uint32_t kind;
    // Of a tensor's bytes: `MF_FLAG_BIG_ENDIAN`, `MF_FLAG_HIGH_BITS_FIRST`.
    uint32_t flags;
    // Position of the blob, tensor or asset.
    uint64_t idx;
    // First byte of it.
    uint64_t start;
    // Number of bytes.
    uint64_t len;
};

// A checksum over output bytes.
struct MfDigest {
    // One of `MF_DIGEST_…`.
    uint32_t algo;
    // Zero.
    uint32_t reserved;
    // Position of the file in `files`.
    uint64_t file;
    // First byte.
    uint64_t start;
    // Number of bytes.
    uint64_t len;
};

// A hole of zeros that a digest fills at the end.
struct MfPatch {
    // One of `MF_FORM_…`.
    uint32_t form;
    // Zero.
    uint32_t reserved;
    // Position of the file in `files`.
    uint64_t file;
    // First byte of the hole.
    uint64_t at;
    // Position of the digest in `digests`.
    uint64_t digest;
};

// A file of the source that is part of the output where it is.
struct MfLink {
    // Its path relative to the output's folder, as `MfHost.link` gave it.
    struct MfText path;
    // Zero.
    uint32_t reserved;
    // The file.
    uint32_t file;
    // Tensors that lie in it.
    uint64_t n_tensors;
};

// A file that reports on the run: promised by a layout, made by `MfWriter.epilogue` when all else is written.
struct MfPromise {
    // Relative path, `/` between folders.
    struct MfText path;
    // Bytes that it has at most, up to 2^20.
    uint64_t at_most;
    // Where the layout has taken in another one whose writer makes the file, the format of that writer. A writer leaves
    // it empty in promises of its own, and passes on those of others as they are, but for the positions that follow.
    struct MfText format;
    // With a format, the position in `files` of the first file of that writer.
    uint64_t first_file;
    // With a format, the number of its files.
    uint64_t n_files;
    // With a format, the position in `digests` of its first digest.
    uint64_t first_digest;
    // With a format, the number of its digests.
    uint64_t n_digests;
};

// A file that is written.
struct MfWritten {
    // Relative path, `/` between folders.
    struct MfText path;
    // Length in bytes.
    uint64_t len;
};

// A digest that is taken: of the finished bytes, unless it fills a hole.
struct MfDigested {
    // One of `MF_DIGEST_…`.
    uint32_t algo;
    // Zero.
    uint32_t reserved;
    // Position of the file in `files`.
    uint64_t file;
    // First byte.
    uint64_t start;
    // Number of bytes.
    uint64_t len;
    // The bytes of the digest; a CRC-32 as a little-endian number.
    struct MfText value;
};

// What writing a tensor has shown of its values.
struct MfSeen {
    // Position of the tensor in the model that the writer was given.
    uint64_t tensor;
    // Its name there.
    struct MfText name;
    // The type that it is written in, one of `MF_DTYPE_…`.
    uint32_t dtype;
    // With `MF_DTYPE_OPAQUE`, elements in a block.
    uint16_t block_elements;
    // With `MF_DTYPE_OPAQUE`, bytes of a block.
    uint16_t block_bytes;
    // Values outside of the range of the type they were cast to.
    uint64_t overflow;
    // Values that are not zero and that a cast made zero.
    uint64_t underflow;
    // Values that were quantized; 0 if none were, and all that follows is 0 then.
    uint64_t n_quantized;
    // NaN and infinities among them. In what follows they do not count.
    uint64_t n_non_finite;
    // Finite ones whose scale is beyond the type that holds it. In the errors they do not count.
    uint64_t n_beyond_scale;
    // Root of the mean square of the differences that quantization made, six digits of it.
    double rms;
    // The largest of them, six digits of it.
    double largest;
};

// What a run has shown when all but the promised files is written.
struct MfOutcome {
    // Bytes of this struct.
    uint64_t struct_size;
    // `MfPromise`: the files to be made.
    struct MfSlice promises;
    // `MfWritten`, in the order of the layout's files.
    struct MfSlice files;
    // `MfDigested`, in the order of the layout's digests.
    struct MfSlice digests;
    // `MfSeen`, of the tensors whose values showed something, in their order.
    struct MfSlice tensors;
    // `MfLoss`: what the values showed to be lost, and the user has accepted.
    struct MfSlice losses;
};

// A promised file, made.
struct MfSmallFile {
    // Its path, as it was promised.
    struct MfText path;
    // All that it holds: UTF-8.
    struct MfText text;
};

// The files that report on a run.
struct MfEpilogue {
    // Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    uint64_t struct_size;
    // Its maker's own.
    void *owner;
    // Frees what the files point at. Called once; may be null.
    void (*release)(void *owner);
    // `MfSmallFile`, one for each promise.
    struct MfSlice files;
};

// The value of a declared option.
struct MfOption {
    // Its name.
    struct MfText name;
    // Its value, as the user would type it; options without value and default are not passed.
    struct MfText value;
};

// A reader.
struct MfReader {
    // Bytes of this struct.
    uint64_t struct_size;
    // Handed to its functions; the library's own, and may be null.
    void *owner;
    // What it is, as JSON: one of the `readers` of a manifest.
    struct MfText info;
    // Whether the root file is of this format: one of `MF_VERDICT_…`. Reads a bounded number of bytes.
    uint32_t (*identify)(void *owner, const struct MfCall *call);
    // Fills `model`, reading headers and never payload. `options` are `MfOption`.
    int32_t (*read)(void *owner, const struct MfCall *call, struct MfSlice options, struct MfModel *model);
};

// A writer.
struct MfWriter {
    // Bytes of this struct.
    uint64_t struct_size;
    // Handed to its functions; the library's own, and may be null.
    void *owner;
    // What it is and what it can represent, as JSON: one of the `writers` of a manifest.
    struct MfText info;
    // Fills `layout` with the bytes of every output file, and tells of losses.
    int32_t (*layout)(void *owner,
                      const struct MfCall *call,
                      const struct MfModel *model,
                      const struct MfRequest *request,
                      struct MfLayout *layout);
    // The same for a file of this format of which only metadata has changed; null in a writer that cannot.
    int32_t (*relayout)(void *owner,
                        const struct MfCall *call,
                        const struct MfModel *model,
                        struct MfText file_name,
                        struct MfLayout *layout);
    // Fills `epilogue` with the files that the layout has promised, made of what the run has shown; null in a writer
    // that promises none. Called when all other bytes are written and before anything is published: a failure publishes
    // nothing. There are no files to read and nothing to ask.
    int32_t (*epilogue)(void *owner,
                        const struct MfCall *call,
                        const struct MfOutcome *outcome,
                        struct MfEpilogue *epilogue);
};

// What a library returns when it is asked what it is. It lives as long as the process.
struct MfPlugin {
    // Bytes of this struct.
    uint64_t struct_size;
    // The smallest minor version of the program's side that it works with.
    uint32_t abi_minor;
    // Zero.
    uint32_t reserved;
    // Its name, unique: small letters, digits and `-`.
    struct MfText id;
    // Its own version.
    struct MfText version;
    // `MfReader`.
    struct MfSlice readers;
    // `MfWriter`.
    struct MfSlice writers;
};

// The one function that a library exports, under the name `modelferry_ID_v1`, `-` in the id as `_`.
typedef const struct MfPlugin *(*MfEntry)(void);

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

#endif  /* MODELFERRY_PLUGIN_H */
