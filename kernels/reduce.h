/* reduce: what the kernels of reduce.cu and their launcher agree on.
   add, scale: x, y [n] · sums: a table of tensors, of which each block takes a piece */
#ifndef SIDRA_REDUCE_H
#define SIDRA_REDUCE_H
#include <stdint.h>

typedef struct ReduceParams {
  uint32_t len; /* n of add and of scale; pieces of all tensors together for a sum */
  float factor; /* scale: x is multiplied by it */
} ReduceParams;

enum ReduceTiles {
  REDUCE_THREADS = 256, /* of a block; 8 elements each in add and scale */
  REDUCE_PIECE = 16384, /* elements of one tensor that a block sums; part of the result's bits */
  REDUCE_FOLD = 512,    /* threads of the one block that adds the pieces' sums */
  REDUCE_ENTRY = 2      /* 64-bit words that the table holds of a tensor: address, elements */
};
#endif
