/* cross_entropy: what the kernels of cross_entropy.cu and their launcher agree on.
   x [R, C], w [V, C] bf16 · labels [R] u32 · loss, picked [R] f32 · part [P, R] of four f32 · row [R] of two f32
   dz [R, stride] bf16 */
#ifndef SIDRA_CROSS_ENTROPY_H
#define SIDRA_CROSS_ENTROPY_H
#include <stdint.h>

typedef struct CrossEntropyParams {
  uint32_t rows;   /* R */
  uint32_t width;  /* C */
  uint32_t vocab;  /* V */
  uint32_t span;   /* tiles of the vocabulary that one block of the first pass walks */
  uint32_t parts;  /* P: ceil(V / (span * tile)) */
  uint32_t first;  /* gradient: first token of the block of logits */
  uint32_t tokens; /* and how many it holds */
  uint32_t stride; /* elements of a row of dz: tokens, rounded up to a multiple of 8 */
  float smoothing; /* s */
  float scale;     /* of the gradient */
} CrossEntropyParams;

enum CrossEntropyLabel { CROSS_ENTROPY_NONE = 0xffffffff /* the row has no label */ };

enum CrossEntropyTiles {
  CROSS_ENTROPY_THREADS = 128,       /* of a block that multiplies */
  CROSS_ENTROPY_TILE = 128,          /* rows and tokens of its tile */
  CROSS_ENTROPY_TILE_BYTES = 65536,  /* dynamic shared memory: 4 stages of (128 + 128) x 32 bf16 */
  CROSS_ENTROPY_SMALL = 64,          /* the same of the kernels for any width */
  CROSS_ENTROPY_SMALL_BYTES = 49152, /* 3 stages of (64 + 64) x 64 bf16 */
  CROSS_ENTROPY_WARPS = 4,           /* rows a block of the second pass, a warp a row */
  CROSS_ENTROPY_PARTS = 256          /* most parts of a row */
};
#endif
