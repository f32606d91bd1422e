/* dropout: what the kernels of dropout.cu and their launcher agree on. x [n] f32 or bf16, in place */
#ifndef SIDRA_DROPOUT_H
#define SIDRA_DROPOUT_H
#include <stdint.h>

typedef struct DropoutParams {
  uint64_t offset;  /* number of the draw of x[0] */
  uint32_t key[2];  /* the seed, low word first */
  uint32_t name[2]; /* the stream under it, low word first */
  uint32_t len;     /* n */
  uint32_t below;   /* ceil(p * 2^24): an element whose 24-bit draw is less is dropped */
  float scale;      /* 1 / (1 - p) */
  uint32_t unused;  /* 0: fills the struct to a multiple of 8 bytes */
} DropoutParams;

enum DropoutTiles {
  DROPOUT_THREADS = 256 /* of a block, 8 elements each */
};
#endif
