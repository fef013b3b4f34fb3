/* What the parts of the rogue plugin share: names of misbehaviours, and counters that tell what was released. */
#include "modelferry_plugin.h"

/* Whether the misbehaviour that was asked for is this one. */
#define IS(name) (strcmp(how, name) == 0)

/* Counters, in an order that the test knows: models given, models released, layouts given, layouts
 * released, reports given, reports released. */
extern uint64_t rogue_counts[6];

/* What the test wants to happen while the plugin is at work. */
extern void (*rogue_meanwhile)(void);

extern const struct MfReader rogue_reader;
extern const struct MfWriter rogue_writer;
