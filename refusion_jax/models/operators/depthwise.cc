// The two functions of depthwise.py for XLA's CPU backend: D, the depthwise 3x3 convolution of a frame, and C, its
// correlation. float32, channels a multiple of LANES in each part of a frame. runtime/native.py builds and registers them.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#ifdef __AVX__
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;

constexpr int64_t LANES = 16;    // channels worked on together: nine taps and their sum stay in registers
constexpr int64_t RUN = 64;      // pixels in a row for LANES channels; with both rows beside them they stay in cache
constexpr int64_t CHUNK = 1024;  // pixels that one thread takes at a time

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
static inline void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }

// Past the caches, where the processor can: then it need not fetch what is overwritten. `to` at a multiple of 64 bytes.
static inline void stream(float* to, Lanes value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#elif defined(__AVX__)
  const __m256* halves = reinterpret_cast<const __m256*>(&value);
  _mm256_stream_ps(to, halves[0]);
  _mm256_stream_ps(to + LANES / 2, halves[1]);
#else
  store(to, value);
#endif
}

// What this thread has streamed is seen by others before what it writes next.
static inline void end_of_stream() {
#ifdef __AVX__
  _mm_sfence();
#endif
}

// work(i) for i < count, on the threads of XLA's pool and on this one. Whoever comes takes the next number, so that this
// thread never waits for one that has not begun: the pool may be busy with others that wait.
template <typename Work>
static void in_threads(ffi::ThreadPool& pool, int64_t count, Work work) {
  struct Progress {
    std::atomic<int64_t> begun{0}, done{0};
  };
  auto progress = std::make_shared<Progress>();
  auto take = [=] {
    for (int64_t i; (i = progress->begun.fetch_add(1)) < count;) {
      work(i);
      progress->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (int64_t i = 1; i < std::min<int64_t>(pool.num_threads(), count); ++i) {
    auto copy = take;  // Schedule takes what is its own
    pool.Schedule(std::move(copy));
  }
  take();
  while (progress->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
}

// A frame in parts of its channels, one array or several, each (N,width).
template <typename T>
struct Frame {
  std::vector<T*> parts;
  int64_t width = 0;
  bool aligned = true;

  void add(T* part) {
    parts.push_back(part);
    aligned &= reinterpret_cast<uintptr_t>(part) % sizeof(Lanes) == 0;
  }
  T* at(int64_t pixel, int64_t channel) const { return parts[channel / width] + pixel * width + channel % width; }
};

static ffi::ErrorOr<Frame<const float>> frame(ffi::RemainingArgs args, size_t first, size_t last) {
  Frame<const float> result;
  for (size_t i = first; i < last; ++i) {
    auto part = args.get<Floats>(i);
    if (part.has_error()) return ffi::Unexpected(part.error());
    result.add(part->typed_data());
    result.width = part->dimensions()[1];
  }
  return result;
}

// kernel (9,C), mask (N,1), x (N,C) -> result (N,C). The ends of the frame, which lack neighbours, are zero.
static ffi::Error Convolve(ffi::ThreadPool pool, Floats kernel, Floats mask, ffi::RemainingArgs args,
                           ffi::RemainingRets rets, int64_t pitch) {
  const int64_t size = mask.dimensions()[0], channels = kernel.dimensions()[1], edge = pitch + 1;
  auto given = frame(args, 0, args.size());
  if (given.has_error()) return given.error();
  const Frame<const float> x = *given;
  Frame<float> result;
  result.width = channels / rets.size();
  for (size_t i = 0; i < rets.size(); ++i) {
    auto part = rets.get<Floats>(i);
    if (part.has_error()) return part.error();
    result.add((*part)->typed_data());
  }
  const float *taps = kernel.typed_data(), *masked = mask.typed_data();
  in_threads(pool, (size + CHUNK - 1) / CHUNK, [=](int64_t chunk) {
    const int64_t row = pitch * x.width, pixel = x.width, width = result.width;
    auto clear = [&](int64_t first, int64_t last) {
      for (float* part : result.parts)
        if (first < last) std::memset(part + first * width, 0, (last - first) * width * sizeof(float));
    };
    const int64_t start = chunk * CHUNK, end = std::min(size, start + CHUNK);
    clear(start, std::min(end, edge));
    clear(std::max(start, size - edge), end);
    const int64_t last = std::min(end, size - edge);
    for (int64_t first = std::max(start, edge); first < last; first += RUN) {
      const int64_t count = std::min(last - first, RUN);
      const float* next = nullptr;
      for (int64_t c = 0; c < channels; c += LANES) {
        if (c % pixel == 0) next = x.at(first + RUN + edge, c);  // what the next run is the first to read
        Lanes k[9];
        for (int t = 0; t < 9; ++t) k[t] = load(taps + t * channels + c);
        const float* here = x.at(first, c);
        float* to = result.at(first, c);
        for (int64_t p = 0; p < count; ++p, here += pixel, to += width, next += LANES) {
          __builtin_prefetch(next);
          const float *up = here - row, *down = here + row;
          Lanes sum = k[0] * load(up - pixel) + k[1] * load(up) + k[2] * load(up + pixel);
          sum += k[3] * load(here - pixel) + k[4] * load(here) + k[5] * load(here + pixel);
          sum += k[6] * load(down - pixel) + k[7] * load(down) + k[8] * load(down + pixel);
          sum *= masked[first + p];
          if (result.aligned)
            stream(to, sum);
          else
            store(to, sum);
        }
      }
    }
    end_of_stream();
  });
  return ffi::Error::Success();
}

// x, g (N,C), the first so many arrays being x -> (9,C). Chunks are summed in their order, so that the result does not
// depend on the threads.
static ffi::Error Correlate(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::Result<Floats> sums, int64_t parts,
                            int64_t pitch) {
  auto first_given = frame(args, 0, parts), second_given = frame(args, parts, args.size());
  if (first_given.has_error()) return first_given.error();
  if (second_given.has_error()) return second_given.error();
  const Frame<const float> x = *first_given, g = *second_given;
  const int64_t size = args.get<Floats>(0)->dimensions()[0], channels = sums->dimensions()[1], edge = pitch + 1;
  const int64_t chunks = (size + CHUNK - 1) / CHUNK;
  std::vector<float> partial(chunks * 9 * channels, 0.0f);
  float* partials = partial.data();
  in_threads(pool, chunks, [=](int64_t chunk) {
    const int64_t row = pitch * x.width, pixel = x.width, width = g.width;
    float* total = partials + chunk * 9 * channels;
    const int64_t last = std::min(size - edge, (chunk + 1) * CHUNK);
    for (int64_t first = std::max(chunk * CHUNK, edge); first < last; first += RUN) {
      const int64_t count = std::min(last - first, RUN);
      const float *next = nullptr, *next_with = nullptr;
      for (int64_t c = 0; c < channels; c += LANES) {
        if (c % pixel == 0) next = x.at(first + RUN + edge, c);
        if (c % width == 0) next_with = g.at(first + RUN, c);
        Lanes sum[9] = {};
        const float *here = x.at(first, c), *with = g.at(first, c);
        for (int64_t p = 0; p < count; ++p, here += pixel, with += width, next += LANES, next_with += LANES) {
          __builtin_prefetch(next);
          __builtin_prefetch(next_with);
          const float *up = here - row, *down = here + row;
          const Lanes factor = load(with);
          sum[0] += factor * load(up - pixel), sum[1] += factor * load(up), sum[2] += factor * load(up + pixel);
          sum[3] += factor * load(here - pixel), sum[4] += factor * load(here), sum[5] += factor * load(here + pixel);
          sum[6] += factor * load(down - pixel), sum[7] += factor * load(down), sum[8] += factor * load(down + pixel);
        }
        for (int t = 0; t < 9; ++t) store(total + t * channels + c, load(total + t * channels + c) + sum[t]);
      }
    }
  });
  std::vector<double> sum(9 * channels, 0.0);
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < 9 * channels; ++i) sum[i] += partials[chunk * 9 * channels + i];
  for (int64_t i = 0; i < 9 * channels; ++i) sums->typed_data()[i] = static_cast<float>(sum[i]);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(convolve, Convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int64_t>("pitch"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    correlate, Correlate,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().Ret<Floats>().Attr<int64_t>("parts").Attr<int64_t>(
        "pitch"));
