/* The boundary between modelferry and its plugins, version 1.0.
 *
 * Generated from crates/abi; `MODELFERRY_UPDATE=1 cargo test -p modelferry-abi --test header` makes it anew.
 *
 * A library exports one function, `const struct MfPlugin *modelferry_ID_v1(void)`, with `-` in its id as `_`, and has a
 * manifest beside it. docs/plugins.md is the guide.
 *
 * Rules. Numbers have fixed widths. A struct that is passed by pointer begins with `struct_size`, the bytes that its
 * maker knows: set it. Arrays travel as struct MfSlice, whose stride is the size of an element as its maker knows it.
 * Text is UTF-8 with a length, not ended by a NUL. What one side allocates the same side frees, when the other calls
 * `release`. Nothing may leave a function but its return: no exception, no longjmp. A function that returns MF_FAILED has
 * told `report->error` why.
 */

#ifndef MODELFERRY_PLUGIN_H
#define MODELFERRY_PLUGIN_H

#include <stdint.h>

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

#endif  /* MODELFERRY_PLUGIN_H */
