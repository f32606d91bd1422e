// A libcuda.so.1 whose "GPU" is the SIMT emulation (SIMT_GPU=none: a driver without a GPU; SIMT_GPU=7.5: a GPU of
// that compute capability): enough of the driver API for a program that loads the driver
// at run time (cudarc with `dynamic-loading`) to run its real host code, unchanged, on a machine without a GPU.
// SIMT_MEMORY=MiB: how much memory the GPU has (8192). SIMT_LOST=N: the N-th launch faults, and every call from
// then on says so, as a real context does.
// Every call is synchronous. Device memory is host memory, so ASan guards it. Any module image is accepted;
// kernels are found by name among those linked into this library (SIMT_EXPORT).
#include <algorithm>
#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include "simt.h"

using u32 = unsigned;
using u64 = uint64_t;
enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900,
       CAPTURE_INVALIDATED = 901, CAPTURE_ISOLATION = 905 };
using Clock = std::chrono::steady_clock;
struct Node { std::function<void()> run; };
// Memory that a captured allocation gave out: the graph's own, at one address for all its launches.
struct Owned { u64 at; bool freed = false; std::shared_ptr<void> memory; };
struct Graph { std::list<Node> nodes; std::vector<Owned> owned; bool launched = false; };
struct Stream { Graph* capture = nullptr; bool broken = false; };
struct Event { Clock::time_point at; Graph* in = nullptr; bool recorded = false; };
struct Function { const simt::Kernel* kernel; u32 max_dynamic = 48 << 10; };
static std::recursive_mutex big_lock;
static Stream null_stream;
static void* context = &null_stream;
static std::map<u64, size_t> held;  // device allocations by address
static size_t used = 0;
static long launches = 0;
static bool lost = false;
static thread_local Stream* capturing = nullptr;  // thread-local capture mode: what is unsafe is refused on this thread

static long setting(const char* name, long otherwise) { const char* v = getenv(name); return v ? atol(v) : otherwise; }
static size_t total() { return size_t(setting("SIMT_MEMORY", 8192)) << 20; }
// What the documentation calls potentially unsafe: an error while this thread captures, and the end of the capture.
static bool unsafe_now() { return capturing ? capturing->broken = true : false; }

static int submit(Stream* s, std::function<void()> f) {
  std::lock_guard l(big_lock);
  if (!s) s = &null_stream;
  if (lost) return LAUNCH_FAILED;
  if (s->capture) s->capture->nodes.push_back({std::move(f)});
  else f();
  return OK;
}
extern "C" {
static const char* gpu() { const char* g = getenv("SIMT_GPU"); return g ? g : "9.0"; }
int cuInit(u32) { return strcmp(gpu(), "none") ? OK : NO_DEVICE; }
int cuDriverGetVersion(int* v) { return *v = 13000, OK; }
int cuDeviceGetCount(int* n) { return *n = 1, OK; }
int cuDeviceGet(int* d, int i) { return *d = i, i ? INVALID : OK; }
int cuDeviceGetName(char* s, int n, int) { return snprintf(s, size_t(n), "SIMT emulation"), OK; }
int cuDeviceGetUuid_v2(void* u, int) { return memset(u, 0, 16), OK; }
int cuDeviceTotalMem_v2(size_t* n, int) { return *n = size_t(8) << 30, OK; }
int cuDeviceGetAttribute(int* v, int a, int) {
  static const std::map<int, int> known = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152},
                                           {10, 32}, {16, 1}, {81, 233472}, {97, 232448}, {115, 1}};
  if (a == 75) return *v = gpu()[0] - '0', OK;
  if (a == 76) return *v = gpu()[1] == '.' ? gpu()[2] - '0' : 0, OK;
  auto i = known.find(a);
  return *v = i == known.end() ? 0 : i->second, OK;
}
int cuDevicePrimaryCtxRetain(void** c, int) { return *c = context, OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxGetCurrent(void** c) { return *c = context, OK; }
int cuCtxSetCurrent(void*) { return OK; }
int cuCtxSynchronize() { return OK; }
int cuMemGetInfo_v2(size_t* f, size_t* t) { std::lock_guard l(big_lock); return *t = total(), *f = *t - used, OK; }
int cuDeviceGetDefaultMemPool(void** p, int) { return *p = context, OK; }
int cuMemPoolSetAttribute(void*, int, void*) { return OK; }
int cuGetErrorName(int e, const char** s) { 
  return *s = e == OK ? "CUDA_SUCCESS" : e == INVALID ? "CUDA_ERROR_INVALID_VALUE"
            : e == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : e == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND"
            : e == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : e == CAPTURE_INVALIDATED ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
            : e == CAPTURE_ISOLATION ? "CUDA_ERROR_STREAM_CAPTURE_ISOLATION" : "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", OK;
 }
int cuGetErrorString(int e, const char** s) { return cuGetErrorName(e, s); }

static int allocate(u64* p, size_t n) {
  std::lock_guard l(big_lock);
  void* q = nullptr;
  if (lost) return LAUNCH_FAILED;
  if (n > total() - used) return OUT_OF_MEMORY;
  if (!n || posix_memalign(&q, 256, n)) return INVALID;
  return held[u64(q)] = n, used += n, memset(q, 0xff, n), *p = u64(q), OK;
}
static int release(u64 p) {
  std::lock_guard l(big_lock);
  auto i = held.find(p);
  if (i == held.end()) return INVALID;
  return used -= i->second, held.erase(i), free(reinterpret_cast<void*>(p)), OK;
}
int cuMemAlloc_v2(u64* p, size_t n) { return unsafe_now() ? CAPTURE_UNSUPPORTED : allocate(p, n); }
int cuMemFree_v2(u64 p) { return unsafe_now() ? CAPTURE_UNSUPPORTED : release(p); }
int cuMemAllocAsync(u64* p, size_t n, Stream* s) {
  const int e = allocate(p, n);
  if (e == OK && s && s->capture) {
    const u64 at = *p;
    s->capture->owned.push_back({at, false, std::shared_ptr<void>(reinterpret_cast<void*>(at), [](void* q) { release(u64(q)); })});
  }
  return e;
}
int cuMemFreeAsync(u64 p, Stream* s) {
  if (!s || !s->capture) return release(p);
  for (auto& o : s->capture->owned) if (o.at == p && !o.freed) return o.freed = true, OK;
  return s->broken = true, INVALID;  // a graph frees what it allocated, nothing else
}
int cuMemHostAlloc(void** p, size_t n, u32) { return unsafe_now() ? CAPTURE_UNSUPPORTED : posix_memalign(p, 256, n) ? OUT_OF_MEMORY : OK; }
int cuMemFreeHost(void* p) { return free(p), OK; }
int cuMemcpyHtoDAsync_v2(u64 d, const void* s, size_t n, Stream* st) { return submit(st, [=] { memcpy(reinterpret_cast<void*>(d), s, n); }); }
int cuMemcpyDtoHAsync_v2(void* d, u64 s, size_t n, Stream* st) { return submit(st, [=] { memcpy(d, reinterpret_cast<void*>(s), n); }); }
int cuMemcpyDtoDAsync_v2(u64 d, u64 s, size_t n, Stream* st) { return submit(st, [=] { memcpy(reinterpret_cast<void*>(d), reinterpret_cast<void*>(s), n); }); }
int cuMemsetD8Async(u64 d, unsigned char v, size_t n, Stream* st) { return submit(st, [=] { memset(reinterpret_cast<void*>(d), v, n); }); }

int cuMemsetD32Async(u64 d, u32 v, size_t n, Stream* st) { return submit(st, [=] { std::fill_n(reinterpret_cast<u32*>(d), n, v); }); }

int cuStreamCreate(Stream** s, u32) { return *s = new Stream, OK; }
int cuStreamDestroy_v2(Stream* s) { return delete s, OK; }
int cuStreamSynchronize(Stream* s) {
  if (s && s->capture) return s->broken = true, CAPTURE_UNSUPPORTED;
  return lost ? LAUNCH_FAILED : OK;
}
// A capturing stream may wait only for what the same capture recorded: cudarc's own event tracking breaks this rule.
int cuStreamWaitEvent(Stream* s, Event* e, u32) { return s && s->capture && e->recorded && e->in != s->capture ? CAPTURE_ISOLATION : OK; }
int cuEventCreate(Event** e, u32) { return *e = new Event, OK; }
int cuEventDestroy_v2(Event* e) { return delete e, OK; }
int cuEventRecord(Event* e, Stream* s) { return e->in = s ? s->capture : nullptr, e->recorded = true, submit(s, [=] { e->at = Clock::now(); }); }
int cuEventSynchronize(Event*) { return unsafe_now() ? CAPTURE_UNSUPPORTED : OK; }
int cuEventQuery(Event*) { return unsafe_now() ? CAPTURE_UNSUPPORTED : OK; }
int cuEventElapsedTime(float* ms, Event* a, Event* b) { return *ms = std::chrono::duration<float, std::milli>(b->at - a->at).count(), OK; }
int cuEventElapsedTime_v2(float* ms, Event* a, Event* b) { return cuEventElapsedTime(ms, a, b); }

int cuModuleLoadData(void** m, const void*) { return *m = context, OK; }
int cuModuleUnload(void*) { return OK; }
int cuModuleGetFunction(Function** f, void*, const char* name) {
  static std::map<std::string, Function> made;
  std::lock_guard l(big_lock);
  auto* k = simt::find_kernel(name);
  if (!k) return NOT_FOUND;
  return *f = &made.insert({name, {k}}).first->second, OK;
}
int cuFuncSetAttribute(Function* f, int a, int v) {
  if (a == 8) f->max_dynamic = u32(v);  // MAX_DYNAMIC_SHARED_SIZE_BYTES
  return v < 0 || v > 232448 ? INVALID : OK;
}
int cuFuncGetAttribute(int* v, int, Function*) { return *v = 0, OK; }
int cuLaunchKernel(Function* f, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 smem, Stream* s, void** params, void**) {
  if (smem > f->max_dynamic || bx * by * bz > 1024 || !bx || !by || !bz || !gx || !gy || !gz) return INVALID;
  // Parameters are copied at the call, as the driver does; 128-byte cells keep any tensor map aligned.
  struct alignas(128) Cell { char c[128]; };
  auto cells = std::make_shared<std::vector<std::vector<Cell>>>();
  for (size_t i = 0; i < f->kernel->param_bytes.size(); ++i) {
    cells->emplace_back(f->kernel->param_bytes[i] / 128 + 1);
    memcpy(cells->back().data(), params[i], f->kernel->param_bytes[i]);
  }
  if (!(s && s->capture) && ++launches == setting("SIMT_LOST", 0)) lost = true;
  return submit(s, [=, k = f->kernel] {
    std::vector<void*> p;
    for (auto& c : *cells) p.push_back(c.data());
    simt::run_grid({gx, gy, gz}, {bx, by, bz}, smem, [&] { k->call(p.data()); });
  });
}
int cuLaunchHostFunc(Stream* s, void (*f)(void*), void* data) { return submit(s, [=] { f(data); }); }
int cuStreamBeginCapture_v2(Stream* s, int mode) {
  if (!s || s->capture) return INVALID;  // the null stream cannot be captured
  s->capture = new Graph, s->broken = false;
  if (mode != 2) capturing = s;  // 2: relaxed
  return OK;
}
int cuStreamEndCapture(Stream* s, Graph** g) {
  if (!s->capture) return INVALID;
  *g = s->capture, s->capture = nullptr, capturing = nullptr;
  if (s->broken) return delete *g, *g = nullptr, CAPTURE_INVALIDATED;
  return OK;
}
int cuStreamIsCapturing(Stream* s, int* v) { return *v = s && s->capture, OK; }
int cuGraphInstantiateWithFlags(Graph** e, Graph* g, u64) { return *e = new Graph(*g), OK; }
int cuGraphUpload(Graph*, Stream*) { return OK; }
int cuGraphLaunch(Graph* e, Stream* s) {
  // What a launch leaves allocated must be freed before the next one.
  for (auto& o : e->owned) if (!o.freed && e->launched) return INVALID;
  e->launched = true;
  if (!(s && s->capture) && ++launches == setting("SIMT_LOST", 0)) lost = true;
  for (auto& n : e->nodes) if (int err = submit(s, n.run)) return err;
  return OK;
}
int cuGraphExecDestroy(Graph* e) { return delete e, OK; }
int cuGraphDestroy(Graph* g) { return delete g, OK; }

int cuTensorMapEncodeTiled(CUtensorMap* m, int type, u32 rank, void* base, const u64* dims, const u64* strides, const u32* box,
                           const u32* elem_strides, int interleave, int swizzle, int, int) {
  static const u32 bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};  // CUtensorMapDataType 0..9
  if (type < 0 || type > 9 || interleave || swizzle > 3) return INVALID;
  for (u32 i = 0; i < rank; ++i) if (elem_strides[i] != 1) return INVALID;
  return simt::tensor_map_encode(m, bytes[type], rank, base, dims, strides, box, simt::Swizzle(swizzle)) ? OK : INVALID;
}
}
