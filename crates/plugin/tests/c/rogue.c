/* A plugin that breaks the rules of the boundary, one at a time: the reader the one that its file names, the writer the
 * one that its output is named after. What no check can find, a pointer to memory that is not there, it does not do. */
#include "rogue.h"
#include "rogue_epilogue.h"
#include "rogue_layout.h"
#include "rogue_model.h"

uint64_t rogue_counts[6];

void (*rogue_meanwhile)(void);

/* For the test: what is to happen while the plugin is at work. */
void rogue_set_meanwhile(void (*happens)(void));
void rogue_set_meanwhile(void (*happens)(void)) {
    rogue_meanwhile = happens;
}

/* For the test: how many of each there were. */
const uint64_t *rogue_counted(void);
const uint64_t *rogue_counted(void) {
    return rogue_counts;
}

const struct MfPlugin *modelferry_rogue_v1(void) {
    static const struct MfPlugin plugin = {
        .struct_size = sizeof plugin, .id = MF_TEXT("rogue"), .version = MF_TEXT("1.0"),
        .readers = MF_ARRAY(&rogue_reader, 1), .writers = MF_ARRAY(&rogue_writer, 1),
    };
    return &plugin;
}
