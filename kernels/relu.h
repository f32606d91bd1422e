/* relu: what the kernels of relu.cu and their launcher agree on. x, y, dy [n] f32 or bf16 */
#ifndef SIDRA_RELU_H
#define SIDRA_RELU_H
#include <stdint.h>

typedef struct ReluParams {
  uint32_t len; /* n */
} ReluParams;

enum ReluTiles {
  RELU_THREADS = 256 /* of a block, 8 elements each */
};
#endif
