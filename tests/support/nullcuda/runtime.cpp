// A CUDA runtime without a card: what ONNX Runtime's CUDA provider asks of libcudart, answered and noted.
//
// Device memory is the host's, of pages that nobody touches, kernels do nothing, and small copies are made, since the
// host may read them back. Declared by hand, so that no header of CUDA is needed: every handle is a pointer and every
// enumeration an int, as the binary interface has them. CUDA_MAJOR is 12 or 13, which differ in cudaDeviceProp.
//
// Source of names and layouts: NVIDIA's CUDA Runtime API reference, versions 12 and 13.
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

typedef int Error;
typedef void* Stream;
struct Dim {
    unsigned x, y, z;
};

// One line of the log: what was asked, its kernel or library function, and its size. Python reads it as it lies here.
struct Event {
    const char *what, *name;
    std::uint64_t stream, bytes;
    unsigned grid[3], block;
};

namespace {

constexpr Error kOutOfMemory = 2, kNotSupported = 801;
constexpr std::size_t kTotal = 80ull << 30, kCopied = 1 << 16;  // bytes of the card; of the largest copy that is made

struct State {
    std::mutex lock;
    std::vector<Event> events;
    std::unordered_map<const void*, std::string> kernels;  // by the address of the host's function
    std::map<void*, std::size_t> device, pinned;           // what is allocated
    std::size_t held = 0, peak = 0, held_pinned = 0;
    std::size_t handles = 0x1000;
    bool capturing = false;
};

State& state() {
    static State* one = new State;  // never destroyed: libraries ask until the process ends
    return *one;
}

void note(const char* what, const char* name = "", const void* stream = nullptr, std::size_t bytes = 0, Dim grid = {},
          unsigned block = 0) {
    std::lock_guard<std::mutex> guard(state().lock);
    state().events.push_back({what, name, (std::uint64_t)stream, bytes, {grid.x, grid.y, grid.z}, block});
}

int capability() {
    const char* said = std::getenv("NULLCUDA_CAPABILITY");
    return said ? std::atoi(said) : 90;
}

std::size_t pages(std::size_t bytes) { return (bytes + 4095) / 4096 * 4096 + 4096; }

Error take(void** p, std::size_t bytes, bool pinned, const char* what, Stream stream = nullptr) {
    note(what, "", stream, bytes);
    State& s = state();
    std::lock_guard<std::mutex> guard(s.lock);
    if (!pinned && s.held + bytes > kTotal) return kOutOfMemory;
    *p = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*p == MAP_FAILED) return kOutOfMemory;
    (pinned ? s.pinned : s.device)[*p] = bytes;
    (pinned ? s.held_pinned : s.held) += bytes;
    s.peak = std::max(s.peak, s.held);
    return 0;
}

Error drop(void* p, bool pinned, const char* what, Stream stream = nullptr) {
    note(what, "", stream);
    State& s = state();
    std::lock_guard<std::mutex> guard(s.lock);
    auto& blocks = pinned ? s.pinned : s.device;
    const auto found = blocks.find(p);
    if (found == blocks.end()) return 0;
    munmap(p, pages(found->second));
    (pinned ? s.held_pinned : s.held) -= found->second;
    blocks.erase(found);
    return 0;
}

const char* direction(int kind) {
    const char* const known[] = {"copy host to host", "copy host to device", "copy device to host",
                                 "copy device to device", "copy of unknown kind"};
    return known[kind < 0 || kind > 4 ? 4 : kind];
}

Error copy(void* to, const void* from, std::size_t bytes, int kind, Stream stream, const char* how) {
    note(direction(kind), how, stream, bytes);
    if (bytes <= kCopied) std::memmove(to, from, bytes);
    return 0;
}

Error launched(const void* kernel, Dim grid, Dim block, Stream stream) {
    const char* name = "?";
    {
        std::lock_guard<std::mutex> guard(state().lock);
        const auto found = state().kernels.find(kernel);
        if (found != state().kernels.end()) name = found->second.c_str();
    }
    note("kernel", name, stream, 0, grid, block.x * block.y * block.z);
    return 0;
}

void* handle() { return (void*)(state().handles += 16); }

struct Call {
    Dim grid, block;
    std::size_t shared;
    Stream stream;
};
thread_local std::vector<Call> calls;

struct Properties {
    char name[256], uuid[16], luid[8];
    unsigned mask;
    std::size_t total, shared_per_block;
    int registers_per_block, warp;
    std::size_t pitch;
    int threads_per_block, block[3], grid[3];
#if CUDA_MAJOR == 12
    int clock;
#endif
    std::size_t constant;
    int major, minor;
    std::size_t texture_alignment, texture_pitch;
#if CUDA_MAJOR == 12
    int overlap, multiprocessors, timeout, integrated, maps_host, compute_mode, textures_12;
#else
    int multiprocessors, integrated, maps_host;
#endif
    int textures[39];
    std::size_t surface_alignment;
    int concurrent, ecc, bus, device, domain, tcc, copy_engines, unified;
#if CUDA_MAJOR == 12
    int memory_clock;
#endif
    int memory_bus, l2, persisting_l2, threads_per_multiprocessor, priorities, l1_global, l1_local;
    std::size_t shared_per_multiprocessor;
    int registers_per_multiprocessor, managed, board, group, atomics;
#if CUDA_MAJOR == 12
    int double_ratio;
#endif
    int pageable, concurrent_managed, preemption, registered, cooperative;
#if CUDA_MAJOR == 12
    int cooperative_many;
#endif
    std::size_t shared_per_block_optin;
};

}  // namespace

extern "C" {

// For Python.

const Event* nullcuda_events(std::size_t* count) {
    *count = state().events.size();
    return state().events.data();
}
void nullcuda_clear() {
    std::lock_guard<std::mutex> guard(state().lock);
    state().events.clear();
    state().peak = state().held;
}
void nullcuda_note(const char* what, const char* name) { note(what, name); }
std::size_t nullcuda_held() { return state().held; }
std::size_t nullcuda_peak() { return state().peak; }
std::size_t nullcuda_pinned() { return state().held_pinned; }

// Kernels: what nvcc's code registers and launches.

void** __cudaRegisterFatBinary(void*) {
    static void* binary[1];
    return binary;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*, void*, void*, int*) {
    std::lock_guard<std::mutex> guard(state().lock);
    state().kernels[host] = name;
}
Error __cudaGetKernel(void** kernel, const void* host) {
    *kernel = const_cast<void*>(host);
    return 0;
}
unsigned __cudaPushCallConfiguration(Dim grid, Dim block, std::size_t shared, void* stream) {
    calls.push_back({grid, block, shared, stream});
    return 0;
}
Error __cudaPopCallConfiguration(Dim* grid, Dim* block, std::size_t* shared, void* stream) {
    const Call call = calls.back();
    calls.pop_back();
    *grid = call.grid, *block = call.block, *shared = call.shared, *(Stream*)stream = call.stream;
    return 0;
}
Error __cudaLaunchKernel(void* kernel, Dim grid, Dim block, void**, std::size_t, Stream stream) {
    return launched(kernel, grid, block, stream);
}
Error cudaLaunchKernel(const void* kernel, Dim grid, Dim block, void**, std::size_t, Stream stream) {
    return launched(kernel, grid, block, stream);
}
Error cudaLaunchCooperativeKernel(const void* kernel, Dim grid, Dim block, void**, std::size_t, Stream stream) {
    return launched(kernel, grid, block, stream);
}
struct LaunchConfiguration {
    Dim grid, block;
    std::size_t shared;
    Stream stream;
};
Error cudaLaunchKernelExC(const LaunchConfiguration* c, const void* kernel, void**) {
    return launched(kernel, c->grid, c->block, c->stream);
}
Error cudaLaunchHostFunc(Stream stream, void (*function)(void*), void* data) {
    note("host function", "", stream);
    function(data);
    return 0;
}
struct FunctionAttributes {
    std::size_t shared, constant, local;
    int threads, registers, ptx, binary;
};
Error cudaFuncGetAttributes(FunctionAttributes* a, const void*) {
    *a = {0, 0, 0, 1024, 32, 90, capability()};
    return 0;
}
Error cudaFuncSetAttribute(const void*, int, int) { return 0; }
Error cudaKernelSetAttributeForDevice(void*, int, int, int) { return 0; }
Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t, unsigned) {
    *blocks = 1;
    return 0;
}
Error cudaLibraryLoadData(void** library, const void*, void*, void**, unsigned, void*, void**, unsigned) {
    *library = handle();
    return 0;
}
Error cudaLibraryUnload(void*) { return 0; }
Error cudaLibraryGetKernel(void** kernel, void*, const char* name) {
    *kernel = handle();
    std::lock_guard<std::mutex> guard(state().lock);
    state().kernels[*kernel] = name;
    return 0;
}

// The card.

Error cudaGetDeviceCount(int* count) { return *count = 1, 0; }
Error cudaGetDevice(int* device) { return *device = 0, 0; }
Error cudaSetDevice(int) { return 0; }
Error cudaDriverGetVersion(int* version) { return *version = 1000 * CUDA_MAJOR, 0; }
Error cudaRuntimeGetVersion(int* version) { return *version = 1000 * CUDA_MAJOR, 0; }
static Error properties(void* all) {
    static_assert(offsetof(Properties, multiprocessors) == (CUDA_MAJOR == 12 ? 388 : 384), "");
    Properties p = {};
    std::strcpy(p.name, "no card: a null CUDA runtime");
    p.total = kTotal, p.shared_per_block = 48 << 10, p.registers_per_block = 65536, p.warp = 32;
    p.threads_per_block = p.block[0] = p.block[1] = 1024, p.block[2] = 64;
    p.grid[0] = 2147483647, p.grid[1] = p.grid[2] = 65535;
    p.major = capability() / 10, p.minor = capability() % 10, p.multiprocessors = 132;
    p.concurrent = p.unified = 1, p.copy_engines = 3, p.l2 = 50 << 20, p.threads_per_multiprocessor = 2048;
    p.shared_per_multiprocessor = 228 << 10, p.registers_per_multiprocessor = 65536;
    p.shared_per_block_optin = 227 << 10;
    std::memcpy(all, &p, sizeof p);
    return 0;
}
Error cudaGetDeviceProperties(void* all, int) { return properties(all); }
Error cudaGetDeviceProperties_v2(void* all, int) { return properties(all); }
Error cudaDeviceGetAttribute(int* value, int attribute, int) {
    static const std::map<int, int> known = {
        {1, 1024},        // threads a block
        {8, 48 << 10},    // shared memory a block
        {10, 32},         // threads a warp
        {12, 65536},      // registers a block
        {16, 132},        // multiprocessors
        {39, 2048},       // threads a multiprocessor
        {81, 228 << 10},  // shared memory a multiprocessor
        {82, 65536},      // registers a multiprocessor
        {97, 227 << 10},  // shared memory a block, where asked for
    };
    const auto found = known.find(attribute);
    *value = attribute == 75 ? capability() / 10 : attribute == 76 ? capability() % 10
             : found != known.end() ? found->second : 1;
    return 0;
}
Error cudaDeviceSynchronize() { return note("wait for the device"), 0; }

// Memory.

Error cudaMalloc(void** p, std::size_t bytes) { return take(p, bytes, false, "allocation"); }
Error cudaMallocFromPoolAsync(void** p, std::size_t bytes, void*, Stream stream) {
    return take(p, bytes, false, "allocation", stream);
}
Error cudaMallocHost(void** p, std::size_t bytes) { return take(p, bytes, true, "pinned allocation"); }
Error cudaHostAlloc(void** p, std::size_t bytes, unsigned) { return take(p, bytes, true, "pinned allocation"); }
Error cudaFree(void* p) { return drop(p, false, "release"); }
Error cudaFreeAsync(void* p, Stream stream) { return drop(p, false, "release", stream); }
Error cudaFreeHost(void* p) { return drop(p, true, "pinned release"); }
Error cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    *total = kTotal, *free = kTotal - state().held;
    return 0;
}
Error cudaMemcpy(void* to, const void* from, std::size_t bytes, int kind) {
    return copy(to, from, bytes, kind, nullptr, "waits");
}
Error cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, int kind, Stream stream) {
    return copy(to, from, bytes, kind, stream, "");
}
Error cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                        std::size_t height, int kind, Stream stream) {
    note(direction(kind), "", stream, width * height);
    if (width * height > kCopied) return 0;
    for (std::size_t row = 0; row < height; ++row)
        std::memmove((char*)to + row * to_pitch, (const char*)from + row * from_pitch, width);
    return 0;
}
Error cudaMemcpyFromSymbol(void* to, const void*, std::size_t bytes, std::size_t, int) {
    note("copy device to host", "waits", nullptr, bytes);
    std::memset(to, 0, bytes);
    return 0;
}
Error cudaMemset(void* p, int value, std::size_t bytes) {
    note("fill", "", nullptr, bytes);
    if (bytes <= kCopied) std::memset(p, value, bytes);
    return 0;
}
Error cudaMemsetAsync(void* p, int value, std::size_t bytes, Stream stream) {
    note("fill", "", stream, bytes);
    if (bytes <= kCopied) std::memset(p, value, bytes);
    return 0;
}
struct PointerAttributes {
    int type, device;
    void *on_device, *on_host;
};
Error cudaPointerGetAttributes(PointerAttributes* a, const void* p) {
    State& s = state();
    std::lock_guard<std::mutex> guard(s.lock);
    const auto after = s.device.upper_bound(const_cast<void*>(p));
    const bool ours = after != s.device.begin() && (char*)p < (char*)std::prev(after)->first + std::prev(after)->second;
    *a = {ours ? 2 : 0, 0, const_cast<void*>(p), ours ? nullptr : const_cast<void*>(p)};
    return 0;
}
Error cudaMemPoolCreate(void** pool, const void*) { return *pool = handle(), 0; }
Error cudaMemPoolDestroy(void*) { return 0; }
Error cudaMemPoolGetAttribute(void*, int, void* value) { return *(std::uint64_t*)value = 0, 0; }
Error cudaMemPoolSetAttribute(void*, int, void*) { return 0; }
Error cudaMemPoolTrimTo(void*, std::size_t) { return 0; }

// Order of work. A wait of the host is what a loop must not have.

Error cudaStreamCreate(Stream* stream) { return *stream = handle(), 0; }
Error cudaStreamCreateWithFlags(Stream* stream, unsigned) { return *stream = handle(), 0; }
Error cudaStreamDestroy(Stream) { return 0; }
Error cudaStreamSynchronize(Stream stream) { return note("wait for a stream", "", stream), 0; }
Error cudaStreamWaitEvent(Stream stream, void*, unsigned) { return note("stream waits", "", stream), 0; }
Error cudaStreamIsCapturing(Stream, int* status) { return *status = state().capturing, 0; }
Error cudaStreamBeginCapture(Stream stream, int) {
    note("capture begins", "", stream);
    state().capturing = true;
    return 0;
}
Error cudaStreamEndCapture(Stream stream, void** graph) {
    note("capture ends", "", stream);
    state().capturing = false;
    return *graph = handle(), 0;
}
Error cudaGraphInstantiate(void** ready, void*, unsigned long long) { return *ready = handle(), 0; }
Error cudaGraphLaunch(void*, Stream stream) { return note("graph launch", "", stream), 0; }
Error cudaGraphDestroy(void*) { return 0; }
Error cudaGraphExecDestroy(void*) { return 0; }
Error cudaEventCreate(void** event) { return *event = handle(), 0; }
Error cudaEventCreateWithFlags(void** event, unsigned) { return *event = handle(), 0; }
Error cudaEventDestroy(void*) { return 0; }
Error cudaEventRecord(void*, Stream stream) { return note("event", "", stream), 0; }
Error cudaEventRecordWithFlags(void*, Stream stream, unsigned) { return note("event", "", stream), 0; }
Error cudaEventSynchronize(void*) { return note("wait for an event"), 0; }
Error cudaEventElapsedTime(float* ms, void*, void*) { return *ms = 1, 0; }

Error cudaGetLastError() { return 0; }
Error cudaPeekAtLastError() { return 0; }
const char* cudaGetErrorName(Error error) { return error ? "cudaError of the null runtime" : "cudaSuccess"; }
const char* cudaGetErrorString(Error error) { return error == kOutOfMemory ? "out of memory" : "not supported"; }
static Error not_supported() { return kNotSupported; }
Error cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long, int* found) {
    *function = (void*)not_supported;
    if (found) *found = 0;
    return 0;
}
}
