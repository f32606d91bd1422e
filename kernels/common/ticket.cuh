// Blocks of one launch that finish something together: each leaves its share in global memory, and whoever comes
// last does the rest. Which block that is depends on timing, what it computes does not, as long as it reads all
// shares, its own too, in a fixed order.
// Elsewhere: hardware verbs (prim.cuh).
#pragma once
#include "prim.cuh"

// Whether this block is the last of `blocks` that come here with this ticket; what any of them wrote before is then
// visible to all of its threads. The ticket is zero before the launch and after it. All threads of the block arrive;
// `word` is shared memory that is free until the return.
PRIM bool comes_last(uint32_t* ticket, uint32_t blocks, uint32_t* word) {
  __threadfence();  // release: this thread's share
  __syncthreads();
  if (threadIdx.x == 0) {
    *word = atomicAdd(ticket, 1u);
    if (*word + 1 == blocks) *ticket = 0;  // nobody else comes: the next launch finds zero
  }
  __syncthreads();
  if (*word + 1 != blocks) return false;
  __threadfence();  // acquire: drops lines of others' shares that the multiprocessor may hold
  return true;
}
