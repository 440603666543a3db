// The two functions of depthwise.py for XLA's CPU backend: D, the depthwise 3x3 convolution of a frame, and C, its
// correlation. float32, channels a multiple of LANES in each part. runtime/native.py builds and registers them.

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

// x (N,C), kernel (9,C), mask (N,1) -> parts (N,C/parts). The ends of the frame, which lack neighbours, are zero.
static ffi::Error Convolve(ffi::ThreadPool pool, Floats x, Floats kernel, Floats mask, ffi::RemainingRets parts,
                           int64_t pitch) {
  const int64_t size = x.dimensions()[0], channels = x.dimensions()[1], edge = pitch + 1;
  std::vector<float*> results;
  bool aligned = true;
  for (size_t i = 0; i < parts.size(); ++i) {
    auto part = parts.get<Floats>(i);
    if (part.has_error()) return part.error();
    results.push_back((*part)->typed_data());
    aligned &= reinterpret_cast<uintptr_t>(results.back()) % sizeof(Lanes) == 0;
  }
  const int64_t width = channels / results.size();  // of a part
  const float *from = x.typed_data(), *taps = kernel.typed_data(), *masked = mask.typed_data();
  in_threads(pool, (size + CHUNK - 1) / CHUNK, [=](int64_t chunk) {
    auto clear = [&](int64_t first, int64_t last) {
      for (float* result : results)
        if (first < last) std::memset(result + first * width, 0, (last - first) * width * sizeof(float));
    };
    const int64_t start = chunk * CHUNK, end = std::min(size, start + CHUNK);
    clear(start, std::min(end, edge));
    clear(std::max(start, size - edge), end);
    const int64_t last = std::min(end, size - edge);
    for (int64_t first = std::max(start, edge); first < last; first += RUN) {
      const int64_t stop = std::min(last, first + RUN);
      const float* next = from + (first + RUN + edge) * channels;  // what the next run is the first to read
      for (int64_t c = 0; c < channels; c += LANES) {
        Lanes k[9];
        for (int t = 0; t < 9; ++t) k[t] = load(taps + t * channels + c);
        float* result = results[c / width] + c % width;
        for (int64_t p = first; p < stop; ++p, next += LANES) {
          __builtin_prefetch(next);
          const float *here = from + p * channels + c, *up = here - pitch * channels, *down = here + pitch * channels;
          Lanes sum = k[0] * load(up - channels) + k[1] * load(up) + k[2] * load(up + channels);
          sum += k[3] * load(here - channels) + k[4] * load(here) + k[5] * load(here + channels);
          sum += k[6] * load(down - channels) + k[7] * load(down) + k[8] * load(down + channels);
          if (aligned)
            stream(result + p * width, sum * masked[p]);
          else
            store(result + p * width, sum * masked[p]);
        }
      }
    }
    end_of_stream();
  });
  return ffi::Error::Success();
}

// x, g (N,C) -> (9,C). Chunks are summed in their order, so that the result does not depend on the threads.
static ffi::Error Correlate(ffi::ThreadPool pool, Floats x, Floats g, ffi::Result<Floats> sums, int64_t pitch) {
  const int64_t size = x.dimensions()[0], channels = x.dimensions()[1], edge = pitch + 1;
  const int64_t chunks = (size + CHUNK - 1) / CHUNK;
  const float *from = x.typed_data(), *with = g.typed_data();
  std::vector<float> partial(chunks * 9 * channels, 0.0f);
  float* partials = partial.data();
  in_threads(pool, chunks, [=](int64_t chunk) {
    float* total = partials + chunk * 9 * channels;
    const int64_t last = std::min(size - edge, (chunk + 1) * CHUNK);
    for (int64_t first = std::max(chunk * CHUNK, edge); first < last; first += RUN) {
      const int64_t stop = std::min(last, first + RUN);
      const float *next = from + (first + RUN + edge) * channels, *next_with = with + (first + RUN) * channels;
      for (int64_t c = 0; c < channels; c += LANES) {
        Lanes sum[9] = {};
        for (int64_t p = first; p < stop; ++p, next += LANES, next_with += LANES) {
          __builtin_prefetch(next);
          __builtin_prefetch(next_with);
          const float *here = from + p * channels + c, *up = here - pitch * channels, *down = here + pitch * channels;
          const Lanes factor = load(with + p * channels + c);
          sum[0] += factor * load(up - channels), sum[1] += factor * load(up), sum[2] += factor * load(up + channels);
          sum[3] += factor * load(here - channels), sum[4] += factor * load(here);
          sum[5] += factor * load(here + channels), sum[6] += factor * load(down - channels);
          sum[7] += factor * load(down), sum[8] += factor * load(down + channels);
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
                                  .Arg<Floats>()
                                  .RemainingRets()
                                  .Attr<int64_t>("pitch"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    correlate, Correlate,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Ret<Floats>().Attr<int64_t>("pitch"));
