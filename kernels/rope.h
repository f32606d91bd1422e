/* rope: what the kernels of rope.cu and their launcher agree on. x [T, H·D] f32 or bf16 · position [T] u32 */
#ifndef SIDRA_ROPE_H
#define SIDRA_ROPE_H
#include <stdint.h>

enum RopeTiles {
  ROPE_THREADS = 128, /* of a block */
  ROPE_TOKENS = 4,    /* tokens of a block */
  ROPE_PAIRS = 64     /* most pairs of a head, D / 2 */
};

typedef struct RopeParams {
  double frequency[64]; /* theta^(-2i / D), D / 2 of them: radians a position; [ROPE_PAIRS] */
  uint32_t tokens;      /* T */
  uint32_t heads;       /* H */
  uint32_t pairs;       /* D / 2, 1 to ROPE_PAIRS */
  float sign;           /* 1 forward, -1 backward */
} RopeParams;
#endif
