/* swiglu: what the kernels of swiglu.cu and their launcher agree on.
   gate, up, y, dy, dgate, dup [n], all f32 or all bf16 */
#ifndef SIDRA_SWIGLU_H
#define SIDRA_SWIGLU_H
#include <stdint.h>

typedef struct SwigluParams {
  uint32_t len; /* n */
} SwigluParams;

enum SwigluTiles {
  SWIGLU_THREADS = 256 /* of a block, 8 elements each */
};
#endif
