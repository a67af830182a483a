#include "kernels.h"

#define CALL(kind, name)                                                \
  case kind:                                                            \
    if (record->words * 4 != sizeof(struct name)) return FAULT_RECORD;  \
    return name((const struct name *)(record + 1), 0, record->units)

/* A map's words follow from what it says of itself. */
static u32 map_bytes(const struct map *call) {
  return sizeof(struct map) + call->inputs * sizeof(struct map_input) + call->constants * 4 +
         call->instructions * sizeof(struct instruction);
}

static u32 run_one(const struct record *record) {
  switch (record->function) {
    case FUNCTION_MAP: {
      const struct map *call = (const struct map *)(record + 1);
      if (record->words * 4 < sizeof(struct map) || record->words * 4 != map_bytes(call)) return FAULT_RECORD;
      return map(call, 0, record->units);
    }
    CALL(FUNCTION_GATHER, gather);
    CALL(FUNCTION_REDUCE, reduce);
    CALL(FUNCTION_SOFTMAX, softmax);
    CALL(FUNCTION_NORM, norm);
    CALL(FUNCTION_MATMUL, matmul);
    CALL(FUNCTION_MATMUL_BITS, matmul_bits);
    CALL(FUNCTION_GATHER_BITS, gather_bits);
    CALL(FUNCTION_ATTENTION, attention);
    CALL(FUNCTION_ROTARY, rotary);
    CALL(FUNCTION_KEEP, keep);
    CALL(FUNCTION_CONV, conv);
    CALL(FUNCTION_POOL, pool);
    CALL(FUNCTION_QUANTISE, quantise);
    CALL(FUNCTION_REPACK, repack);
    default: return FAULT_RECORD;
  }
}

/* Does so many calls, whose records lie one behind the other; ends at the first fault. */
__attribute__((export_name("run"))) u32 run(const struct record *record, u32 count) {
  for (u32 i = 0; i < count; i++) {
    u32 fault = run_one(record);
    if (fault != FAULT_NONE) return fault;
    record = (const struct record *)((const u32 *)(record + 1) + record->words);
  }
  return FAULT_NONE;
}
